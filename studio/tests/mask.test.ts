import { describe, expect, it } from "vitest";
import { Marks, type Pen, paint, pointOf } from "../src/state/mask";

const dot = { kind: "stroke", erase: false, width: 8, softness: 0, points: [{ x: 1, y: 2 }] } as const;

describe("marks", () => {
  it("are undone and redone without end, and a new one ends what could be redone", () => {
    const marks = new Marks();
    for (let count = 0; count < 500; count++) marks.add(dot);
    for (let count = 0; count < 500; count++) marks.undo();
    expect(marks.shown.value).toEqual([]);
    expect(marks.canUndo.value).toBe(false);
    marks.redo();
    expect(marks.shown.value).toEqual([dot]);
    marks.add({ kind: "invert" });
    expect(marks.canRedo.value).toBe(false);
    marks.undo();
    marks.undo();
    marks.undo(); // nothing is left: nothing happens
    expect(marks.done.value).toEqual([]);
  });

  it("before a clear are not seen, and come back when it is undone", () => {
    const marks = new Marks();
    marks.add(dot);
    marks.add({ kind: "clear" });
    expect(marks.shown.value).toEqual([]);
    marks.undo();
    expect(marks.shown.value).toEqual([dot]);
  });
});

describe("paint", () => {
  it("draws a tap as a dot, erases by taking out, and inverts all", () => {
    const calls: string[] = [];
    const told = { globalCompositeOperation: "source-over", shadowBlur: 0, shadowOffsetX: 0, lineWidth: 0 };
    const pen = new Proxy(told, {
      get: (target, name) =>
        name in target
          ? target[name as keyof typeof told]
          : (...values: number[]) => calls.push(`${told.globalCompositeOperation} ${String(name)} ${values.join(" ")}`),
      set: (target, name, value: string) => {
        if (name in target) Object.assign(target, { [name]: value });
        return true;
      },
    }) as unknown as Pen;
    paint(
      pen,
      [
        dot,
        { kind: "rectangle", erase: false, from: { x: 9, y: 8 }, to: { x: 3, y: 2 } },
        { ...dot, erase: true },
        { kind: "invert" },
      ],
      20,
      10,
      "#000",
    );
    expect(calls).toEqual([
      "source-over clearRect 0 0 20 10",
      "source-over beginPath ",
      "source-over moveTo 1 2",
      "source-over lineTo 1.01 2",
      "source-over stroke ",
      "source-over fillRect 3 2 6 6",
      "destination-out beginPath ",
      "destination-out moveTo 1 2",
      "destination-out lineTo 1.01 2",
      "destination-out stroke ",
      "xor fillRect 0 0 20 10",
    ]);
  });
});

it("a pointer's place is found in the picture's own pixels, however large it is shown", () => {
  const box = { left: 100, top: 50, width: 300, height: 150 };
  expect(pointOf({ clientX: 250, clientY: 125 }, box, { width: 1200, height: 800 })).toEqual({ x: 600, y: 400 });
});
