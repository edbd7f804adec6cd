/** What a person paints over a picture: strokes and shapes, each undone and redone. No DOM. */

import { computed, signal } from "@preact/signals";

export interface Point {
  x: number;
  y: number;
}
export type Mark =
  | { kind: "stroke"; erase: boolean; width: number; softness: number; points: readonly Point[] }
  | { kind: "rectangle"; erase: boolean; from: Point; to: Point }
  | { kind: "lasso"; erase: boolean; points: readonly Point[] }
  | { kind: "invert" }
  | { kind: "clear" };
export const TOOLS = ["brush", "eraser", "rectangle", "lasso"] as const;
export type Tool = (typeof TOOLS)[number];

export const NARROWEST = 4;
export const WIDEST = 300;
const FAR = 20_000; // pixels: outside of every picture

/** Marks with undo and redo without end. */
export class Marks {
  readonly done = signal<readonly Mark[]>([]);
  readonly undone = signal<readonly Mark[]>([]);
  readonly canUndo = computed(() => this.done.value.length > 0);
  readonly canRedo = computed(() => this.undone.value.length > 0);
  /** Marks that count: those before the last clear cannot be seen. */
  readonly shown = computed(() => {
    const last = this.done.value.map((mark) => mark.kind).lastIndexOf("clear");
    return this.done.value.slice(last + 1);
  });
  /** Whether the mask has soft edges, which the picture then passes through. */
  readonly soft = computed(() => this.shown.value.some((mark) => mark.kind === "stroke" && mark.softness > 0));

  add(mark: Mark): void {
    this.done.value = [...this.done.value, mark];
    this.undone.value = [];
  }

  undo(): void {
    const last = this.done.value.at(-1);
    if (last === undefined) return;
    this.done.value = this.done.value.slice(0, -1);
    this.undone.value = [...this.undone.value, last];
  }

  redo(): void {
    const last = this.undone.value.at(-1);
    if (last === undefined) return;
    this.undone.value = this.undone.value.slice(0, -1);
    this.done.value = [...this.done.value, last];
  }

  reset(marks: readonly Mark[] = []): void {
    this.done.value = marks;
    this.undone.value = [];
  }
}

/** The mark that a tool makes of the way of a pointer; `erase` turns a shape round. */
export function markOf(tool: Tool, points: readonly Point[], width: number, softness: number, erase: boolean): Mark {
  if (tool === "rectangle") return { kind: "rectangle", erase, from: points[0] as Point, to: points.at(-1) as Point };
  if (tool === "lasso") return { kind: "lasso", erase, points };
  return { kind: "stroke", erase: erase !== (tool === "eraser"), width, softness, points };
}

/** The picture's point under a pointer, where it is shown in a box of another size. */
export function pointOf(
  pointer: { clientX: number; clientY: number },
  box: { left: number; top: number; width: number; height: number },
  picture: { width: number; height: number },
): Point {
  return {
    x: ((pointer.clientX - box.left) / box.width) * picture.width,
    y: ((pointer.clientY - box.top) / box.height) * picture.height,
  };
}

export interface Pen {
  fillStyle: string | CanvasGradient | CanvasPattern;
  strokeStyle: string | CanvasGradient | CanvasPattern;
  shadowColor: string;
  shadowBlur: number;
  shadowOffsetX: number;
  lineWidth: number;
  lineCap: CanvasLineCap;
  lineJoin: CanvasLineJoin;
  globalCompositeOperation: GlobalCompositeOperation;
  fillRect(x: number, y: number, width: number, height: number): void;
  clearRect(x: number, y: number, width: number, height: number): void;
  beginPath(): void;
  moveTo(x: number, y: number): void;
  lineTo(x: number, y: number): void;
  fill(): void;
  stroke(): void;
}

/** Draw marks in opaque colour on what is transparent; what is painted is what will be drawn anew. */
export function paint(pen: Pen, marks: readonly Mark[], width: number, height: number, colour: string): void {
  pen.globalCompositeOperation = "source-over";
  pen.clearRect(0, 0, width, height);
  for (const mark of marks) paintOne(pen, mark, width, height, colour);
}

/** Draw one mark more. */
export function paintOne(pen: Pen, mark: Mark, width: number, height: number, colour: string): void {
  pen.fillStyle = colour;
  pen.strokeStyle = colour;
  if (mark.kind === "clear") {
    pen.clearRect(0, 0, width, height);
    return;
  }
  if (mark.kind === "invert") {
    pen.globalCompositeOperation = "xor";
    pen.fillRect(0, 0, width, height);
    return;
  }
  pen.globalCompositeOperation = mark.erase ? "destination-out" : "source-over";
  if (mark.kind === "rectangle") {
    const { from, to } = mark;
    pen.fillRect(Math.min(from.x, to.x), Math.min(from.y, to.y), Math.abs(to.x - from.x), Math.abs(to.y - from.y));
    return;
  }
  const [first, ...rest] = mark.points;
  if (!first) return;
  // of a soft stroke nothing is seen but its shadow: the line itself lies far to the left
  const away = mark.kind === "stroke" && mark.softness > 0 ? FAR : 0;
  pen.beginPath();
  pen.moveTo(first.x - away, first.y);
  if (rest.length === 0) pen.lineTo(first.x - away + 0.01, first.y); // a tap is a dot
  for (const point of rest) pen.lineTo(point.x - away, point.y);
  if (mark.kind === "lasso") {
    pen.fill();
    return;
  }
  pen.lineCap = "round";
  pen.lineJoin = "round";
  pen.lineWidth = Math.max(1, mark.width * (1 - mark.softness / 2));
  pen.shadowColor = away > 0 ? colour : "transparent";
  pen.shadowBlur = (mark.width * mark.softness) / 2;
  pen.shadowOffsetX = away;
  pen.stroke();
  pen.shadowColor = "transparent";
  pen.shadowOffsetX = 0;
}
