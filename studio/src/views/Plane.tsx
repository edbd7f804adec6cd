import { useRef } from "preact/hooks";
import * as api from "../api/client";
import * as make from "../state/make";
import * as plane from "../state/plane";
import { t } from "../state/words";
import { Progress, Tile, Withheld } from "./Jobs";

const ARROWS: Readonly<Record<string, readonly [number, number]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};
const CORNERS = {
  3: [{ x: 0, y: 0 }, { x: 1, y: 0 }, { x: 0.5, y: 1 }],
  4: [{ x: 0, y: 0 }, { x: 1, y: 0 }, { x: 0, y: 1 }, { x: 1, y: 1 }],
} as const;

const at = ({ x, y }: plane.Place) => ({ left: `${x * 100}%`, top: `${y * 100}%` });

/** A plane between three or four pictures; where the hand is, that mixture is shown. */
export function Plane() {
  const pad = useRef<HTMLDivElement>(null);
  const used = make.used.value;
  const corners = used.length > 3 ? CORNERS[4] : CORNERS[3];
  const shown = plane.shown.value;
  const total = plane.places.value.length;
  const troubled = plane.troubled.value;
  const take = (event: PointerEvent): void => {
    const box = (pad.current as HTMLElement).getBoundingClientRect();
    const within = (value: number): number => Math.max(0, Math.min(1, value));
    plane.hand.value = {
      x: within((event.clientX - box.left) / box.width),
      y: within((event.clientY - box.top) / box.height),
    };
  };
  const shares = plane.sharesAt(plane.hand.value, used.length).map((share) => `${Math.round(Math.max(0, share) * 100)} %`);
  return (
    <div class="plane">
      <div
        ref={pad}
        class="pad"
        role="slider"
        tabIndex={0}
        aria-label={t("plane.pad")}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(plane.hand.value.x * 100)}
        aria-valuetext={shares.join(", ")}
        onPointerDown={(event) => {
          pad.current?.setPointerCapture(event.pointerId);
          take(event);
        }}
        onPointerMove={(event) => {
          if (event.buttons > 0) take(event);
        }}
        onKeyDown={(event) => {
          const by = ARROWS[event.key];
          if (!by) return;
          event.preventDefault();
          plane.step(...by);
        }}
      >
        {plane.places.value.map((place) => {
          const picture = plane.picture(place);
          return picture ? (
            <img key={plane.keyOf(place)} class="dot" style={at(place)} src={api.thumbnailOf(picture.id, 64)} alt="" />
          ) : (
            <span key={plane.keyOf(place)} class="dot" style={at(place)} />
          );
        })}
        {corners.map((corner, index) => (
          <img key={used[index]?.url} class="corner" style={at(corner)} src={used[index]?.url ?? ""} alt="" />
        ))}
        <span class="hand" style={at(plane.hand.value)} />
      </div>
      <div class="mixture">
        {shown ? <Tile picture={shown.picture} side={512} /> : <div class="ghost" />}
        <p class="words" role="status">
          {plane.running.value ? t("plane.drawing", { done: plane.done.value, total }) : t("plane.hint")}
        </p>
        <Withheld job={troubled} />
        {troubled && troubled.state !== "done" && <Progress job={troubled} />}
        {plane.running.value && (
          <button type="button" class="small" onClick={plane.stop}>
            {t("job.cancel")}
          </button>
        )}
      </div>
    </div>
  );
}
