import { signal } from "@preact/signals";
import { models } from "../state/app";
import * as library from "../state/library";
import * as selection from "../state/selection";
import { t } from "../state/words";
import { Choice, Field, FileButton, IconButton, Segments } from "./fields";
import { Icon } from "./icons";

const SHELVES = ["all", "starred", "bin"] as const;
const filtersOpen = signal(false);
let waiting: ReturnType<typeof setTimeout> | undefined;

/** Ask when the typing pauses. */
function soon(): void {
  clearTimeout(waiting);
  waiting = setTimeout(() => void library.reload(), 250);
}

function Search() {
  const like = library.like.value;
  return (
    <div class="search">
      <Icon name="search" />
      {like ? (
        <span class="like">
          <img src={like.url} alt="" />
          <span>{t("library.like", { name: like.name })}</span>
        </span>
      ) : (
        <input
          type="search"
          aria-label={library.bySight.value ? t("library.sight") : t("library.search")}
          placeholder={library.bySight.value ? t("library.sight") : t("library.search")}
          value={library.text.value}
          onInput={(event) => {
            library.text.value = event.currentTarget.value;
            soon();
          }}
        />
      )}
      {like && (
        <IconButton
          icon="close"
          label={t("library.clear")}
          onClick={() => {
            library.forgetLike();
            void library.reload();
          }}
        />
      )}
      <IconButton
        icon="eye"
        label={t("library.sight.toggle")}
        pressed={library.bySight.value}
        onClick={() => {
          library.bySight.value = !library.bySight.value;
          if (library.text.value) void library.reload();
        }}
      />
    </div>
  );
}

function More() {
  const day = (label: string, value: typeof library.since) => (
    <Field label={label}>
      {(control) => (
        <input
          {...control}
          type="date"
          value={value.value}
          onInput={(event) => {
            value.value = event.currentTarget.value;
            void library.reload();
          }}
        />
      )}
    </Field>
  );
  return (
    <div class="grid" id="filters">
      <Choice
        label={t("library.model")}
        value={library.bundle.value}
        among={[{ value: "", text: t("library.any") }, ...models.value.map(({ id }) => ({ value: id, text: id }))]}
        chosen={(name) => {
          library.bundle.value = name;
          void library.reload();
        }}
      />
      {day(t("library.since"), library.since)}
      {day(t("library.until"), library.until)}
      <div class="field">
        <span>{t("library.by.picture")}</span>
        <FileButton label={t("canvas.open")} chosen={(file) => void library.findLike(file, file.name)} />
      </div>
    </div>
  );
}

function Boards() {
  const boards = library.boards.value;
  if (boards.length === 0) return null;
  const chosen = library.board.value;
  const choose = (name: string): void => {
    library.board.value = library.board.value === name ? "" : name;
    void library.reload();
  };
  return (
    <div class="boards" role="group" aria-label={t("library.boards")}>
      {boards.map((one) => (
        <button key={one.name} type="button" aria-pressed={chosen === one.name} onClick={() => choose(one.name)}>
          {one.name} <small>{one.count}</small>
        </button>
      ))}
      {chosen !== "" && (
        <IconButton icon="clear" label={t("library.board.delete")} onClick={() => void library.dropBoard(chosen)} />
      )}
    </div>
  );
}

export function Filters() {
  return (
    <div class="filters">
      <div class="row bar">
        <Search />
        <Segments
          label={t("library.shelf")}
          among={SHELVES.map((name) => ({ value: name, text: t(`library.${name}`) }))}
          value={library.shelf.value}
          chosen={(name) => {
            library.shelf.value = name;
            void library.reload();
          }}
        />
        <button
          type="button"
          class="pill"
          aria-expanded={filtersOpen.value}
          aria-controls="filters"
          onClick={() => (filtersOpen.value = !filtersOpen.value)}
        >
          <Icon name="settings" /> {t("library.filter")}
        </button>
        <button
          type="button"
          class="pill"
          aria-pressed={selection.choosing.value}
          onClick={() => (selection.choosing.value ? selection.stop() : (selection.choosing.value = true))}
        >
          <Icon name="check" /> {t("select.select")}
        </button>
      </div>
      {filtersOpen.value && <More />}
      <Boards />
    </div>
  );
}
