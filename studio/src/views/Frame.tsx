import * as api from "../api/client";
import * as canvas from "../state/canvas";
import { Preview } from "./Jobs";

const SNAP = 8; // pixels of the picture
const HANDLES = ["left", "right", "top", "bottom"] as const;

/** The frame around a picture that is extended, with the tiles that it takes, in their order. */
export function Frame({ scale }: { scale: number }) {
  const size = canvas.framed.value;
  const tiles = canvas.tiles.value;
  const job = canvas.job.value;
  const drawing = job !== undefined && !api.isOver(job);
  const count = tiles?.corners.length ?? 0;
  // the same tiles are drawn for each of the pictures that are asked for
  const done = drawing && job.total > 0 && count > 0 ? Math.floor((job.step / job.total) * count * job.n) % count : 0;
  const current = drawing ? tiles?.corners[done] : undefined;

  function drag(side: (typeof HANDLES)[number], event: PointerEvent): void {
    const handle = event.currentTarget as HTMLElement;
    const [from, before] = [{ x: event.clientX, y: event.clientY }, canvas.margins.value[side]];
    handle.setPointerCapture(event.pointerId);
    const sign = side === "left" || side === "top" ? -1 : 1;
    const step = scale; // the frame is fitted anew while it grows: its first scale counts
    handle.onpointermove = (moved) => {
      const by = side === "left" || side === "right" ? moved.clientX - from.x : moved.clientY - from.y;
      canvas.setMargin(side, Math.round((before + (sign * by) / step) / SNAP) * SNAP);
    };
    handle.onpointerup = handle.onpointercancel = () => {
      handle.onpointermove = null;
    };
  }

  return (
    <div class="frame" aria-hidden="true">
      {tiles && (
        <svg class="tiling" viewBox={`0 0 ${size.width} ${size.height}`}>
          {tiles.corners.map(([x = 0, y = 0], index) => (
            <g key={`${x} ${y}`} class={drawing && index < done ? "tile-done" : drawing && index === done ? "tile-now" : ""}>
              <rect x={x} y={y} width={tiles.side} height={tiles.side} rx={tiles.side / 40} />
              <text x={x + tiles.side / 2} y={y + tiles.side / 2} font-size={tiles.side / 6}>
                {index + 1}
              </text>
            </g>
          ))}
        </svg>
      )}
      {current && tiles && job && (
        <Preview
          job={job}
          class="tile-preview"
          style={{
            left: `${(current[0] ?? 0) * scale}px`,
            top: `${(current[1] ?? 0) * scale}px`,
            width: `${tiles.side * scale}px`,
            height: `${tiles.side * scale}px`,
          }}
        />
      )}
      {HANDLES.map((side) => (
        <span key={side} class={`handle ${side}`} onPointerDown={(event) => drag(side, event)} />
      ))}
    </div>
  );
}
