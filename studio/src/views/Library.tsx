import { useEffect, useRef, useState } from "preact/hooks";
import type { Picture } from "../api/client";
import * as grid from "../state/grid";
import * as library from "../state/library";
import * as selection from "../state/selection";
import { t } from "../state/words";
import { Filters } from "./Filters";
import { Star, Thumbnail } from "./Jobs";
import { Icon } from "./icons";
import { SelectionBar } from "./SelectionBar";

const LEAST = 150; // pixels of a tile's side
const GAP = 10;
const KEYS: Readonly<Record<string, (columns: number) => number>> = {
  ArrowLeft: () => -1,
  ArrowRight: () => 1,
  ArrowUp: (columns) => -columns,
  ArrowDown: (columns) => columns,
};

function pressed(picture: Picture, event: MouseEvent): void {
  if (selection.choosing.value) selection.toggle(picture, event.shiftKey);
  else if (event.ctrlKey || event.metaKey || event.shiftKey) {
    selection.choosing.value = true;
    selection.toggle(picture, event.shiftKey);
  } else library.open.value = picture;
}

function Cell({ picture, index, keyed }: { picture: Picture; index: number; keyed: (event: KeyboardEvent) => void }) {
  const chosen = selection.isChosen(picture);
  const choosing = selection.choosing.value;
  return (
    <button
      type="button"
      class={chosen ? "tile chosen" : "tile"}
      data-index={index}
      {...(choosing ? { "aria-pressed": chosen } : {})}
      onClick={(event) => pressed(picture, event)}
      onKeyDown={keyed}
    >
      <Thumbnail picture={picture} side={256} />
      {picture.starred && <Star />}
      {choosing && <span class="tick">{chosen && <Icon name="check" />}</span>}
    </button>
  );
}

/** The grid: only what is in sight stands on the page. */
function Grid() {
  const place = useRef<HTMLDivElement>(null);
  const [box, setBox] = useState({ width: 0, top: 0, height: 0 });
  const found = library.pictures.value;
  useEffect(() => {
    let asked = 0;
    const measure = (): void => {
      cancelAnimationFrame(asked);
      asked = requestAnimationFrame(() => {
        const at = place.current?.getBoundingClientRect();
        if (at) setBox({ width: at.width, top: -at.top, height: innerHeight });
      });
    };
    measure();
    addEventListener("scroll", measure, { passive: true });
    addEventListener("resize", measure);
    return () => {
      cancelAnimationFrame(asked);
      removeEventListener("scroll", measure);
      removeEventListener("resize", measure);
    };
  }, []);
  const layout = grid.layoutOf(box.width || 600, found.length, LEAST, GAP);
  const part = grid.partOf(layout, found.length, box.top, box.height);
  useEffect(() => {
    if (part.last > found.length - layout.columns * 6) void library.more();
  }, [part.last, found.length]);
  const keyed = (event: KeyboardEvent): void => {
    const by = KEYS[event.key]?.(layout.columns);
    const from = Number((event.currentTarget as HTMLElement).dataset["index"]);
    const picture = found[from];
    if (by !== undefined) {
      event.preventDefault();
      const to = place.current?.querySelector<HTMLElement>(`[data-index="${from + by}"]`);
      to?.focus();
      to?.scrollIntoView({ block: "nearest" });
    } else if (picture && event.key === "s") void library.star(picture);
    else if (picture && event.key === "Delete") void library.remove([picture]);
  };
  return (
    <div ref={place} class="cells" style={{ paddingTop: `${part.before}px`, paddingBottom: `${part.after}px` }}>
      <div class="window" style={{ gridTemplateColumns: `repeat(${layout.columns}, minmax(0, 1fr))`, gap: `${GAP}px` }}>
        {found.slice(part.first, part.last).map((picture, at) => (
          <Cell key={picture.id} picture={picture} index={part.first + at} keyed={keyed} />
        ))}
      </div>
    </div>
  );
}

function Empty() {
  if (library.loading.value && !library.loaded.value) {
    return (
      <div class="waiting" role="status" aria-label={t("app.loading")}>
        {Array.from({ length: 12 }, (_, index) => (
          <span key={index} class="ghost" />
        ))}
      </div>
    );
  }
  if (library.loading.value) return null;
  const none = library.filtered.value || library.shelf.value !== "all";
  return (
    <div class="empty">
      <Icon name={none ? "search" : "library"} />
      <p>{none ? t("library.none") : t("library.empty")}</p>
      {library.filtered.value && (
        <button type="button" onClick={library.clearFilter}>
          {t("library.clear")}
        </button>
      )}
    </div>
  );
}

export function Library() {
  useEffect(() => {
    void library.reload();
    void library.loadBoards();
    return selection.stop;
  }, []);
  return (
    <section class="library">
      <h1 class="hidden">{t("nav.library")}</h1>
      <Filters />
      {library.pictures.value.length === 0 ? <Empty /> : <Grid />}
      {selection.choosing.value && <SelectionBar />}
    </section>
  );
}
