import { useEffect, useRef, useState } from "preact/hooks";
import * as api from "../api/client";
import * as canvas from "../state/canvas";
import { type Mark, markOf, type Pen, type Point, paint, paintOne, pointOf } from "../state/mask";
import { t } from "../state/words";
import { fitOf, panned, type Size, zoomed } from "../state/viewport";
import { Frame } from "./Frame";

const PAINT = "#5f3dc4"; // rare in pictures
const WHEEL = 0.002; // of a doubling, for a pixel of the wheel

/** The mask as the API has it: a PNG of the picture's size, transparent where it is painted over. */
export async function maskOf(marks: readonly Mark[], width: number, height: number): Promise<Blob> {
  const board = new OffscreenCanvas(width, height);
  const pen = board.getContext("2d") as OffscreenCanvasRenderingContext2D;
  paint(pen as unknown as Pen, marks, width, height, "#000");
  pen.globalCompositeOperation = "xor"; // what was painted becomes transparent, all else opaque
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, width, height);
  return board.convertToBlob({ type: "image/png" });
}

/** The marks over the picture; while a stroke is drawn, only it is painted anew. */
function Mask({ given, drawing }: { given: canvas.Source; drawing: { current: Mark | null } }) {
  const board = useRef<HTMLCanvasElement>(null);
  const under = useRef<OffscreenCanvas | null>(null);
  const marks = canvas.marks.shown.value;
  const { width, height } = given;
  useEffect(() => {
    const rest = new OffscreenCanvas(width, height);
    paint(rest.getContext("2d") as unknown as Pen, marks, width, height, PAINT);
    under.current = rest;
    let asked = 0;
    let seen: Mark | null | undefined;
    const redraw = (): void => {
      asked = requestAnimationFrame(redraw);
      if (seen === drawing.current) return;
      seen = drawing.current;
      const pen = board.current?.getContext("2d");
      if (!pen) return;
      pen.globalCompositeOperation = "copy";
      pen.drawImage(rest, 0, 0);
      if (seen) paintOne(pen, seen, width, height, PAINT);
    };
    redraw();
    return () => cancelAnimationFrame(asked);
  }, [marks, width, height]);
  return <canvas ref={board} class="mask" width={width} height={height} role="img" aria-label={t("canvas.mask")} />;
}

/** A circle as wide as the brush, where the pointer is. */
function Cursor({ at, scale }: { at: Point | null; scale: number }) {
  const { tool, width, softness } = canvas;
  if (!at || (tool.value !== "brush" && tool.value !== "eraser")) return null;
  const side = width.value * scale;
  const style = { left: `${at.x}px`, top: `${at.y}px`, width: `${side}px`, height: `${side}px` };
  return <span class={softness.value > 0 ? "cursor soft" : "cursor"} style={style} aria-hidden="true" />;
}

export function Board() {
  const given = canvas.source.value;
  const place = useRef<HTMLDivElement>(null);
  const stage = useRef<HTMLDivElement>(null);
  const drawing = useRef<Mark | null>(null);
  const points = useRef<Point[]>([]);
  const fingers = useRef(new Map<number, Point>());
  const space = useRef(false);
  const [box, setBox] = useState<Size>({ width: 1, height: 1 });
  const [pointer, setPointer] = useState<Point | null>(null);
  const [url, setUrl] = useState("");
  useEffect(() => {
    if (!given) return undefined;
    const made = URL.createObjectURL(given.blob);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [given]);
  useEffect(() => {
    const watcher = new ResizeObserver(([entry]) => entry && setBox(entry.contentRect));
    if (place.current) watcher.observe(place.current);
    const keys = (event: KeyboardEvent): void => {
      const typing = /^(INPUT|TEXTAREA|SELECT|BUTTON)$/.test((event.target as HTMLElement).tagName);
      if (event.key === " " && !typing) {
        space.current = event.type === "keydown";
        event.preventDefault();
      }
    };
    addEventListener("keydown", keys);
    addEventListener("keyup", keys);
    return () => {
      watcher.disconnect();
      removeEventListener("keydown", keys);
      removeEventListener("keyup", keys);
    };
  }, []);
  if (!given) return null;

  const shot = canvas.shot.value;
  const size = canvas.framed.value;
  const result = canvas.result.value;
  const scale = fitOf(result ?? size, box) * shot.scale;
  const masking = canvas.mode.value === "mask" && !result;
  const { left, top } = canvas.mode.value === "extend" ? canvas.margins.value : canvas.NONE;

  const fromMiddle = (event: { clientX: number; clientY: number }): Point => {
    const at = (place.current as HTMLElement).getBoundingClientRect();
    return { x: event.clientX - at.left - at.width / 2, y: event.clientY - at.top - at.height / 2 };
  };
  const inBox = (event: PointerEvent): Point => {
    const at = (place.current as HTMLElement).getBoundingClientRect();
    return { x: event.clientX - at.left, y: event.clientY - at.top };
  };
  const inPicture = (event: PointerEvent): Point =>
    pointOf(event, (stage.current as HTMLElement).getBoundingClientRect(), given);
  const mark = (erase: boolean): Mark =>
    markOf(canvas.tool.value, points.current, canvas.width.value, canvas.softness.value, erase);

  function down(event: PointerEvent): void {
    if ((event.target as HTMLElement).closest(".handle")) return;
    place.current?.setPointerCapture(event.pointerId);
    fingers.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
    points.current = [];
    drawing.current = null;
    if (fingers.current.size > 1 || !masking || space.current || event.button === 1) return; // moves the picture
    points.current = [inPicture(event)];
    drawing.current = mark(event.altKey);
  }
  function move(event: PointerEvent): void {
    setPointer(masking && event.pointerType !== "touch" ? inBox(event) : null);
    const before = fingers.current.get(event.pointerId);
    if (!before) return;
    const others = [...fingers.current].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    fingers.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const [other] = others;
    if (points.current.length > 0) {
      // a slow page gets all places that the pointer was at since the last frame
      const passed = event.getCoalescedEvents?.() ?? [];
      points.current = [...points.current, ...(passed.length > 0 ? passed : [event]).map(inPicture)];
      drawing.current = mark(event.altKey);
    } else if (other) {
      const span = (one: Point): number => Math.hypot(one.x - other.x, one.y - other.y);
      const by = span({ x: event.clientX, y: event.clientY }) / Math.max(1, span(before));
      const middle = fromMiddle({ clientX: (event.clientX + other.x) / 2, clientY: (event.clientY + other.y) / 2 });
      const moved = panned(shot, (event.clientX - before.x) / 2, (event.clientY - before.y) / 2, box);
      canvas.shot.value = zoomed(moved, by, middle, box);
    } else canvas.shot.value = panned(shot, event.clientX - before.x, event.clientY - before.y, box);
  }
  function up(event: PointerEvent): void {
    fingers.current.delete(event.pointerId);
    if (drawing.current && event.type === "pointerup") canvas.marks.add(drawing.current);
    points.current = [];
    drawing.current = null;
  }
  function wheel(event: WheelEvent): void {
    event.preventDefault();
    canvas.shot.value =
      event.ctrlKey || shot.scale === 1
        ? zoomed(shot, 2 ** (-event.deltaY * WHEEL), fromMiddle(event), box)
        : panned(shot, -event.deltaX, -event.deltaY, box);
  }

  const shown = result ?? size;
  const style = {
    width: `${shown.width * scale}px`,
    height: `${shown.height * scale}px`,
    transform: `translate(calc(-50% + ${shot.x}px), calc(-50% + ${shot.y}px))`,
  };
  const inner = {
    left: `${left * scale}px`,
    top: `${top * scale}px`,
    width: `${given.width * scale}px`,
    height: `${given.height * scale}px`,
  };
  const same = result && result.width === given.width && result.height === given.height;
  return (
    <div
      ref={place}
      class={masking ? "board masking" : "board"}
      onPointerDown={down}
      onPointerMove={move}
      onPointerUp={up}
      onPointerCancel={up}
      onPointerLeave={() => setPointer(null)}
      onWheel={wheel}
    >
      <div class="sheet-of-board" style={style}>
        {result ? (
          <>
            <img src={api.fileOf(result.id)} alt={t("canvas.result", { number: canvas.results.value.indexOf(result) + 1 })} />
            {same && canvas.split.value > 0 && (
              <img src={url} alt={t("canvas.before")} style={{ clipPath: `inset(0 ${100 - canvas.split.value}% 0 0)` }} />
            )}
            {same && canvas.split.value > 0 && <span class="edge" style={{ left: `${canvas.split.value}%` }} />}
          </>
        ) : (
          <>
            <div ref={stage} class="picture" style={inner}>
              {url && <img src={url} alt={given.name} />}
              {masking && <Mask given={given} drawing={drawing} />}
            </div>
            {canvas.mode.value === "extend" && <Frame scale={scale} />}
          </>
        )}
      </div>
      <Cursor at={pointer} scale={scale} />
    </div>
  );
}
