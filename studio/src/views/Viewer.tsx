import { signal } from "@preact/signals";
import { Fragment } from "preact";
import { useEffect } from "preact/hooks";
import * as api from "../api/client";
import { attempt, view } from "../state/app";
import * as canvas from "../state/canvas";
import * as form from "../state/draw";
import { findLike, open, putOnBoard, remove, restore, star, step } from "../state/library";
import { take } from "../state/make";
import { momentOf, settingOf, t } from "../state/words";
import { Dialog } from "./Dialog";
import { IconButton } from "./fields";
import { Icon } from "./icons";
import { BoardForm } from "./SelectionBar";
import { Verdict } from "./Verdict";

const LARGEST = 2.5; // times its own pixels: beyond that one sees squares
const origin = signal<{ id: string; found: api.Origin } | null>(null);

function again(picture: api.Picture, sameSeed: boolean): void {
  form.recall(picture, sameSeed);
  open.value = null;
  view.value = "draw";
  void form.draw();
}

/** The form is filled as it was for this picture, to be changed before it is drawn. */
function recall(picture: api.Picture): void {
  form.recall(picture, true);
  open.value = null;
  view.value = "draw";
}

async function begin(picture: api.Picture): Promise<void> {
  const blob = await attempt(() => api.blobOf(picture.id));
  if (!blob) return;
  form.init.value = { blob, name: picture.prompt };
  form.prompt.value = picture.prompt;
  open.value = null;
  view.value = "draw";
}

async function verify(picture: api.Picture): Promise<void> {
  const found = await attempt(async () => api.verify(await api.blobOf(picture.id)));
  if (found) origin.value = { id: picture.id, found };
}

async function similar(picture: api.Picture): Promise<void> {
  const blob = await attempt(() => api.blobOf(picture.id));
  if (!blob) return;
  open.value = null;
  view.value = "library";
  await findLike(blob, picture.prompt);
}

function leave(work: Promise<unknown>): void {
  open.value = null;
  void work;
}

function Making({ picture }: { picture: api.Picture }) {
  const drawn = picture.settings["operation"] === undefined;
  return (
    <div class="actions">
      {drawn && (
        <>
          <button type="button" onClick={() => again(picture, true)}>
            <Icon name="again" /> {t("picture.again")}
          </button>
          <button type="button" onClick={() => again(picture, false)}>
            {t("picture.seed")}
          </button>
          <button type="button" onClick={() => recall(picture)}>
            {t("picture.recall")}
          </button>
        </>
      )}
      {form.knows("init") && (
        <button type="button" onClick={() => void begin(picture)}>
          {t("picture.start")}
        </button>
      )}
      <button type="button" onClick={() => leave(canvas.openPicture(picture))}>
        <Icon name="canvas" /> {t("picture.edit")}
      </button>
      <button type="button" onClick={() => leave(take([picture], "vary"))}>
        <Icon name="make" /> {t("picture.vary")}
      </button>
      <button type="button" onClick={() => leave(take([picture], "blend"))}>
        {t("picture.blend")}
      </button>
      <button type="button" onClick={() => leave(take([picture], "restyle"))}>
        {t("make.change")}
      </button>
      <button type="button" onClick={() => void similar(picture)}>
        <Icon name="search" /> {t("picture.similar")}
      </button>
    </div>
  );
}

function Keeping({ picture }: { picture: api.Picture }) {
  return (
    <div class="keeping">
      <IconButton
        icon="star"
        filled={picture.starred}
        label={picture.starred ? t("picture.unstar") : t("picture.star")}
        onClick={() => void star(picture)}
      />
      <a
        class="button quiet"
        href={api.fileOf(picture.id)}
        download={`${picture.id}.${picture.format}`}
        aria-label={t("picture.download")}
        title={t("picture.download")}
      >
        <Icon name="download" />
      </a>
      <IconButton icon="shield" label={t("picture.verify")} onClick={() => void verify(picture)} />
      {picture.deleted ? (
        <button type="button" onClick={() => void restore(picture)}>
          {t("picture.restore")}
        </button>
      ) : (
        <IconButton
          class="danger"
          icon="clear"
          label={t("picture.delete")}
          onClick={() => void remove([picture])}
        />
      )}
    </div>
  );
}

function Parents({ ids }: { ids: readonly string[] }) {
  if (ids.length === 0) return null;
  const show = async (id: string): Promise<void> => {
    const found = await attempt(() => api.picture(id));
    if (found) open.value = found;
  };
  return (
    <div class="parents">
      <h3>{t("picture.parents")}</h3>
      {ids.map((id) => (
        <button key={id} type="button" class="thumbnail" aria-label={t("picture.parent")} onClick={() => void show(id)}>
          <img src={api.thumbnailOf(id, 128)} alt="" />
        </button>
      ))}
    </div>
  );
}

function Recipe({ picture }: { picture: api.Picture }) {
  const rows: [string, string][] = [
    [t("draw.model"), picture.model],
    [t("draw.size"), `${picture.width} × ${picture.height}`],
    [t("draw.seed"), `${picture.seed} · ${picture.index}`],
    [t("picture.made"), momentOf(picture.created)],
    ...Object.entries(picture.settings)
      .filter(([name]) => name !== "size") // said above, with both sides
      .map(([name, value]): [string, string] => [settingOf(name), value]),
  ];
  return (
    <>
      <h3>{t("picture.recipe")}</h3>
      <dl>
        {rows.map(([name, value]) => (
          <Fragment key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </Fragment>
        ))}
      </dl>
    </>
  );
}

/** One picture, large, with its recipe and what can be done with it. */
export function Viewer() {
  const picture = open.value;
  useEffect(() => {
    const move = (event: KeyboardEvent): void => {
      if (!open.value || (event.target as HTMLElement).tagName === "INPUT") return;
      if (event.key === "ArrowLeft") step(-1);
      if (event.key === "ArrowRight") step(1);
    };
    addEventListener("keydown", move);
    return () => removeEventListener("keydown", move);
  }, []);
  return (
    <Dialog open={picture !== null} close={() => (open.value = null)} label={picture?.prompt ?? ""} class="viewer">
      {picture && (
        <div class="sheet">
          <div class="stage">
            <img
              src={api.fileOf(picture.id)}
              alt={t("picture.alt", { prompt: picture.prompt })}
              width={picture.width}
              height={picture.height}
              style={{ maxWidth: `${picture.width * LARGEST}px` }}
            />
            <IconButton class="back" icon="left" label={t("picture.previous")} onClick={() => step(-1)} />
            <IconButton class="forth" icon="right" label={t("picture.next")} onClick={() => step(1)} />
          </div>
          <div class="side">
            <h2>{picture.prompt || t("picture.nameless")}</h2>
            <Keeping picture={picture} />
            {origin.value?.id === picture.id && <Verdict origin={origin.value.found} />}
            <Making picture={picture} />
            <BoardForm put={(name) => void putOnBoard(picture, name)} />
            {picture.board !== "" && (
              <p class="on-board">
                {picture.board}
                <IconButton
                  icon="close"
                  label={t("library.board.off")}
                  onClick={() => void putOnBoard(picture, "")}
                />
              </p>
            )}
            <Parents ids={picture.parents} />
            <Recipe picture={picture} />
          </div>
        </div>
      )}
    </Dialog>
  );
}
