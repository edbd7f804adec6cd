/** What a person paints over a picture: strokes and shapes, each undone and redone. No DOM. */

import { computed, signal } from "@preact/signals";

export interface Point {
  x: number;
  y: number;
}
export type Mark =
  | { kind: "stroke"; erase: boolean; width: number; points: readonly Point[] }
  | { kind: "rectangle"; erase: boolean; from: Point; to: Point }
  | { kind: "invert" }
  | { kind: "clear" };
export type Tool = "brush" | "eraser" | "rectangle";

export const NARROWEST = 4;
export const WIDEST = 200;

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

  reset(): void {
    this.done.value = [];
    this.undone.value = [];
  }
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
  lineWidth: number;
  lineCap: CanvasLineCap;
  lineJoin: CanvasLineJoin;
  globalCompositeOperation: GlobalCompositeOperation;
  fillRect(x: number, y: number, width: number, height: number): void;
  clearRect(x: number, y: number, width: number, height: number): void;
  beginPath(): void;
  moveTo(x: number, y: number): void;
  lineTo(x: number, y: number): void;
  stroke(): void;
}

/** Draw marks in opaque colour on what is transparent; what is painted is what will be drawn anew. */
export function paint(pen: Pen, marks: readonly Mark[], width: number, height: number, colour: string): void {
  pen.globalCompositeOperation = "source-over";
  pen.clearRect(0, 0, width, height);
  pen.lineCap = "round";
  pen.lineJoin = "round";
  pen.fillStyle = colour;
  pen.strokeStyle = colour;
  for (const mark of marks) {
    if (mark.kind === "clear") {
      pen.clearRect(0, 0, width, height);
      continue;
    }
    if (mark.kind === "invert") {
      pen.globalCompositeOperation = "xor";
      pen.fillRect(0, 0, width, height);
      continue;
    }
    pen.globalCompositeOperation = mark.erase ? "destination-out" : "source-over";
    if (mark.kind === "rectangle") {
      const { from, to } = mark;
      pen.fillRect(
        Math.min(from.x, to.x),
        Math.min(from.y, to.y),
        Math.abs(to.x - from.x),
        Math.abs(to.y - from.y),
      );
      continue;
    }
    const [first, ...rest] = mark.points;
    if (!first) continue;
    pen.lineWidth = mark.width;
    pen.beginPath();
    pen.moveTo(first.x, first.y);
    if (rest.length === 0) pen.lineTo(first.x + 0.01, first.y); // a tap is a dot
    for (const point of rest) pen.lineTo(point.x, point.y);
    pen.stroke();
  }
}
