import { signal } from "@preact/signals";
import { useId } from "preact/hooks";
import * as api from "../api/client";
import * as library from "../state/library";
import { take } from "../state/make";
import * as selection from "../state/selection";
import { t } from "../state/words";
import { IconButton } from "./fields";
import { Icon } from "./icons";

const named = signal("");

/** A board's name, a new one or one that is there. */
export function BoardForm({ put }: { put: (name: string) => void }) {
  const id = useId();
  return (
    <form
      class="joined board-form"
      onSubmit={(event) => {
        event.preventDefault();
        const name = named.value.trim();
        if (name) put(name);
        named.value = "";
      }}
    >
      <input
        list={id}
        maxLength={100}
        aria-label={t("library.board")}
        placeholder={t("library.board")}
        value={named.value}
        onInput={(event) => (named.value = event.currentTarget.value)}
      />
      <datalist id={id}>
        {library.boards.value.map((one) => (
          <option key={one.name} value={one.name} />
        ))}
      </datalist>
      <button type="submit" disabled={named.value.trim() === ""}>
        {t("select.board")}
      </button>
    </form>
  );
}

/** What can be done with the chosen pictures, at the lower edge of the screen. */
export function SelectionBar() {
  const chosen = selection.chosen.value;
  const none = chosen.length === 0;
  return (
    <div class="selection" role="toolbar" aria-label={t("select.select")}>
      <strong>{t("select.count", { count: chosen.length })}</strong>
      <button type="button" onClick={selection.all}>
        {t("select.all")}
      </button>
      {none || chosen.length > selection.MOST_ZIPPED ? (
        <button type="button" disabled>
          <Icon name="download" /> ZIP
        </button>
      ) : (
        <a class="button" href={api.zipOf(chosen.map((one) => one.id))} download="pictures.zip">
          <Icon name="download" /> ZIP
        </a>
      )}
      <button type="button" disabled={none} onClick={() => void selection.starAll()}>
        <Icon name="star" /> {t("picture.star")}
      </button>
      <button type="button" disabled={chosen.length !== 2} onClick={selection.compare}>
        <Icon name="compare" /> {t("select.compare")}
      </button>
      <button
        type="button"
        disabled={chosen.length < 2 || chosen.length > 4}
        onClick={() => void take(chosen, "blend")}
      >
        <Icon name="make" /> {t("make.blend")}
      </button>
      {!none && <BoardForm put={(name) => void selection.boardAll(name)} />}
      {library.shelf.value === "bin" ? (
        <button type="button" disabled={none} onClick={() => void selection.restoreAll()}>
          {t("picture.restore")}
        </button>
      ) : (
        <button type="button" class="danger" disabled={none} onClick={() => void selection.removeAll()}>
          <Icon name="clear" /> {t("picture.delete")}
        </button>
      )}
      <IconButton icon="close" label={t("select.stop")} onClick={selection.stop} />
    </div>
  );
}
