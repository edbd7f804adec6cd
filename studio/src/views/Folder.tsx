import { useEffect } from "preact/hooks";
import * as api from "../api/client";
import { dropped } from "../state/drop";
import * as folder from "../state/folder";
import { t } from "../state/words";
import { Dialog } from "./Dialog";
import { Field, FileButton, IconButton, Segments } from "./fields";
import { Icon } from "./icons";

let waiting: ReturnType<typeof setTimeout> | undefined;

function soon(): void {
  clearTimeout(waiting);
  waiting = setTimeout(() => void folder.search(), 300);
}

function Indexing({ one }: { one: api.Folder }) {
  const running = one.state === "running";
  return (
    <div class="card">
      <div class="row">
        <h2>{one.name}</h2>
        <span class={one.indexed ? "badge good" : "badge"}>
          {one.indexed ? t("folder.indexed", { count: one.pictures }) : t("folder.not.indexed")}
        </span>
        {running ? (
          <button type="button" onClick={() => void folder.stop(one)}>
            {t("job.cancel")}
          </button>
        ) : (
          <button type="button" class={one.indexed ? "" : "primary"} onClick={() => void folder.index(one)}>
            {one.indexed ? t("folder.update") : t("folder.index")}
          </button>
        )}
      </div>
      {running && (
        <div class="bytes">
          <progress max={Math.max(1, one.total)} value={one.done} aria-label={t("folder.index")} />
          <small role="status">{t("job.running", { stage: one.stage, step: one.done, total: one.total })}</small>
        </div>
      )}
      {one.error !== null && (
        <p class="error" role="alert">
          {one.error}
        </p>
      )}
      {!one.indexed && !running && <small>{t("folder.hint")}</small>}
      {one.photographs && <small>{t("folder.photographs")}</small>}
    </div>
  );
}

function Search() {
  const like = folder.like.value;
  return (
    <form
      class="filters"
      onSubmit={(event) => {
        event.preventDefault();
        void folder.search();
      }}
    >
      <div class="row bar">
        <div class="search">
          <Icon name="search" />
          <input
            type="search"
            aria-label={t("library.sight")}
            placeholder={t("library.sight")}
            value={folder.text.value}
            onInput={(event) => {
              folder.text.value = event.currentTarget.value;
              soon();
            }}
          />
        </div>
        {like ? (
          <span class="pill like">
            <img src={like.url} alt="" />
            <span>{t("library.like", { name: like.name })}</span>
            <IconButton icon="close" label={t("library.clear")} onClick={() => folder.setLike(null)} />
          </span>
        ) : (
          <FileButton label={t("library.by.picture")} chosen={(file) => folder.setLike(file, file.name)} />
        )}
      </div>
      <Field label={t("folder.without")}>
        {(control) => (
          <input
            {...control}
            value={folder.without.value}
            placeholder={t("folder.without.example")}
            onInput={(event) => {
              folder.without.value = event.currentTarget.value;
              soon();
            }}
          />
        )}
      </Field>
    </form>
  );
}

function Hits({ one }: { one: api.Folder }) {
  const hits = folder.hits.value;
  if (folder.searching.value && !hits) return <p class="empty">{t("app.loading")}</p>;
  if (!hits) return null;
  if (hits.length === 0) return <p class="empty">{t("library.none")}</p>;
  return (
    <div class="tiles hits">
      {hits.map((hit) => (
        <button key={hit.number} type="button" class="tile" onClick={() => (folder.open.value = hit)}>
          <img src={api.folderPicture(one.id, hit.number, "thumbnail")} alt={hit.name} loading="lazy" />
        </button>
      ))}
    </div>
  );
}

function Large({ one }: { one: api.Folder }) {
  const hit = folder.open.value;
  return (
    <Dialog open={hit !== null} close={() => (folder.open.value = null)} label={hit?.name ?? ""} class="viewer">
      {hit && (
        <div class="sheet">
          <div class="stage">
            <img src={api.folderPicture(one.id, hit.number, "file")} alt={hit.name} />
          </div>
          <div class="side">
            <h2>{hit.name}</h2>
            <div class="actions">
              <button type="button" onClick={() => void folder.edit(hit)}>
                <Icon name="canvas" /> {t("picture.edit")}
              </button>
              <button type="button" onClick={() => void folder.similar(hit)}>
                <Icon name="search" /> {t("picture.similar")}
              </button>
              <button
                type="button"
                onClick={() =>
                  void folder.fileOf(hit).then((file) => {
                    folder.open.value = null;
                    dropped.value = file ?? null;
                  })
                }
              >
                {t("folder.more")}
              </button>
            </div>
            <dl>
              <dt>{t("draw.size")}</dt>
              <dd>
                {hit.width} × {hit.height}
              </dd>
              <dt>{t("folder.date")}</dt>
              <dd>{hit.date}</dd>
              <dt>{t("folder.fits")}</dt>
              <dd>{Math.round(hit.probability * 100)} %</dd>
              {hit.copies.length > 0 && <dt>{t("folder.copies")}</dt>}
              {hit.copies.length > 0 && <dd>{hit.copies.join(", ")}</dd>}
            </dl>
          </div>
        </div>
      )}
    </Dialog>
  );
}

export function Folder() {
  useEffect(() => {
    void folder.load();
  }, []);
  const all = folder.folders.value;
  const one = folder.folder.value;
  return (
    <section class="folder">
      <h1 class="hidden">{t("nav.folder")}</h1>
      {all?.length === 0 && (
        <div class="empty">
          <Icon name="folder" />
          <p>{t("folder.none")}</p>
          <code>unclip serve --folder PICTURES</code>
        </div>
      )}
      {all && all.length > 1 && one && (
        <Segments
          label={t("nav.folder")}
          among={all.map(({ id, name }) => ({ value: id, text: name }))}
          value={one.id}
          chosen={folder.choose}
        />
      )}
      {one && <Indexing one={one} />}
      {one?.indexed && <Search />}
      {one && <Hits one={one} />}
      {one && <Large one={one} />}
    </section>
  );
}
