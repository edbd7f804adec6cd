import { useEffect, useRef } from "preact/hooks";
import * as api from "../api/client";
import { can, model } from "../state/app";
import * as canvas from "../state/canvas";
import { type Mark, NARROWEST, type Pen, type Point, paint, pointOf, type Tool, WIDEST } from "../state/mask";
import { t } from "../state/words";
import { FileButton, Prompt, Range } from "./fields";
import { Progress } from "./Jobs";

const TOOLS: readonly Tool[] = ["brush", "eraser", "rectangle"];
const PAINT = "#5f3dc4"; // rare in pictures
const LEAST = 512; // pixels of the screen that a small picture is shown at

/** The mask as the API has it: a PNG of the picture's size, transparent where it is painted over. */
async function maskOf(marks: readonly Mark[], width: number, height: number): Promise<Blob> {
  const board = new OffscreenCanvas(width, height);
  const pen = board.getContext("2d") as OffscreenCanvasRenderingContext2D;
  paint(pen as unknown as Pen, marks, width, height, "#000");
  pen.globalCompositeOperation = "xor"; // what was painted becomes transparent, all else opaque
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, width, height);
  return board.convertToBlob({ type: "image/png" });
}

function Board() {
  const given = canvas.source.value;
  const board = useRef<HTMLCanvasElement>(null);
  const picture = useRef<HTMLImageElement>(null);
  const stroke = useRef<Point[] | null>(null);
  const marks = canvas.marks.shown.value;

  function redraw(more?: Mark): void {
    const pen = board.current?.getContext("2d");
    if (pen && given) paint(pen, more ? [...marks, more] : marks, given.width, given.height, PAINT);
  }
  useEffect(() => redraw(), [marks, given]);
  useEffect(() => {
    if (!given || !picture.current) return undefined;
    const url = canvas.shown.value ? api.fileOf(canvas.shown.value) : URL.createObjectURL(given.blob);
    picture.current.src = url;
    return () => URL.revokeObjectURL(url);
  }, [given, canvas.shown.value]);

  function mark(points: readonly Point[]): Mark {
    const erase = canvas.tool.value === "eraser";
    const last = points.at(-1) as Point;
    return canvas.tool.value === "rectangle"
      ? { kind: "rectangle", erase: false, from: points[0] as Point, to: last }
      : { kind: "stroke", erase, width: canvas.width.value, points };
  }
  function at(event: PointerEvent): Point {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    return pointOf(event, box, given as { width: number; height: number });
  }
  if (!given) return null;
  return (
    <div class="board">
      <img
        ref={picture}
        alt={given.name}
        width={given.width}
        height={given.height}
        style={{ width: `min(${Math.max(LEAST, given.width)}px, ${(75 * given.width) / given.height}vh)` }}
      />
      {canvas.shown.value === null && (
        <canvas
          ref={board}
          width={given.width}
          height={given.height}
          role="img"
          aria-label={t("canvas.mask")}
          onPointerDown={(event) => {
            event.currentTarget.setPointerCapture(event.pointerId);
            stroke.current = [at(event)];
            redraw(mark(stroke.current));
          }}
          onPointerMove={(event) => {
            if (!stroke.current) return;
            stroke.current.push(at(event));
            redraw(mark(stroke.current));
          }}
          onPointerUp={() => {
            if (stroke.current) canvas.marks.add(mark(stroke.current));
            stroke.current = null;
          }}
          onPointerCancel={() => {
            stroke.current = null;
            redraw();
          }}
        />
      )}
    </div>
  );
}

function Results() {
  const { results, shown } = canvas;
  if (results.value.length === 0) return null;
  return (
    <div class="results">
      <h2>{t("canvas.results")}</h2>
      <div class="strip">
        <button type="button" aria-pressed={shown.value === null} onClick={() => (shown.value = null)}>
          {t("canvas.before")}
        </button>
        {results.value.map((picture, index) => (
          <button
            key={picture.id}
            type="button"
            class="thumbnail"
            aria-label={`${t("canvas.results")} ${index + 1}`}
            aria-pressed={shown.value === picture.id}
            onClick={() => (shown.value = picture.id)}
          >
            <img src={api.fileOf(picture.id)} alt="" />
          </button>
        ))}
        <button type="button" disabled={shown.value === null} onClick={() => void canvas.keep()}>
          {t("canvas.keep")}
        </button>
      </div>
    </div>
  );
}

function Margins() {
  const sides = ["left", "right", "top", "bottom"] as const;
  return (
    <details class="settings">
      <summary>{t("canvas.extend")}</summary>
      <div class="grid">
        {sides.map((side) => (
          <label key={side} class="field">
            <span>{t(`canvas.${side}`)}</span>
            <input
              type="number"
              min={0}
              step={32}
              value={canvas.margins.value[side]}
              onInput={(event) =>
                (canvas.margins.value = { ...canvas.margins.value, [side]: Number(event.currentTarget.value) })
              }
            />
          </label>
        ))}
      </div>
      <button
        type="button"
        disabled={!canvas.extends_.value || canvas.busy.value || canvas.prompt.value.trim() === ""}
        onClick={() => void canvas.extend()}
      >
        {t("canvas.extend.button")}
      </button>
    </details>
  );
}

async function draw(): Promise<void> {
  const given = canvas.source.value;
  if (given && canvas.ready.value) await canvas.edit(await maskOf(canvas.marks.shown.value, given.width, given.height));
}

export function Canvas() {
  const given = canvas.source.value;
  const { marks } = canvas;
  return (
    <section class="canvas">
      <h1 class="hidden">{t("nav.canvas")}</h1>
      {!can("edit") && model.value && <p class="notice warning">{t("models.cannot", { model: model.value.id })}</p>}
      {!given && (
        <div class="empty drop">
          <p>{t("canvas.drop")}</p>
          <FileButton label={t("canvas.open")} chosen={(file) => void canvas.openBlob(file, file.name)} />
        </div>
      )}
      {given && (
        <div class="workbench">
          <div>
            <div class="row bar" role="toolbar" aria-label={t("canvas.mask")}>
              {TOOLS.map((name) => (
                <button
                  key={name}
                  type="button"
                  aria-pressed={canvas.tool.value === name}
                  onClick={() => (canvas.tool.value = name)}
                >
                  {t(`canvas.${name}`)}
                </button>
              ))}
              <button type="button" disabled={!marks.canUndo.value} onClick={() => marks.undo()}>
                {t("canvas.undo")}
              </button>
              <button type="button" disabled={!marks.canRedo.value} onClick={() => marks.redo()}>
                {t("canvas.redo")}
              </button>
              <button type="button" onClick={() => marks.add({ kind: "invert" })}>
                {t("canvas.invert")}
              </button>
              <button type="button" onClick={() => marks.add({ kind: "clear" })}>
                {t("canvas.clear")}
              </button>
            </div>
            <Board />
          </div>
          <form
            class="card panel"
            onSubmit={(event) => {
              event.preventDefault();
              void draw();
            }}
          >
            <FileButton label={t("canvas.open")} chosen={(file) => void canvas.openBlob(file, file.name)} />
            <Range label={t("canvas.width")} value={canvas.width} min={NARROWEST} max={WIDEST} />
            <Prompt label={t("canvas.prompt")} value={canvas.prompt} send={() => void draw()} rows={3} />
            <small>{t("canvas.mask")}</small>
            <button type="submit" class="primary" disabled={!canvas.ready.value || canvas.busy.value}>
              {t("canvas.button")}
            </button>
            <Margins />
            {canvas.job.value && canvas.job.value.state !== "done" && <Progress job={canvas.job.value} />}
            <Results />
          </form>
        </div>
      )}
    </section>
  );
}
