import type { Signal } from "@preact/signals";
import { t } from "../state/words";

/** Two pictures of one place, one over the other, with an edge between them that moves. */
export function Split(props: { before: string; after: string; names: readonly [string, string]; at: Signal<number> }) {
  const { before, after, names, at } = props;
  return (
    <figure class="split">
      <div class="layers">
        <img src={after} alt={names[1]} />
        <img src={before} alt={names[0]} style={{ clipPath: `inset(0 ${100 - at.value}% 0 0)` }} />
        <span class="edge" style={{ left: `${at.value}%` }} aria-hidden="true" />
      </div>
      <input
        type="range"
        min={0}
        max={100}
        aria-label={t("compare.slider")}
        value={at.value}
        onInput={(event) => (at.value = Number(event.currentTarget.value))}
      />
    </figure>
  );
}
