import { describe, expect, it } from "vitest";
import type { Model, Option, Origin } from "../src/api/client";
import { fits, promptsOf, recipeOf } from "../src/state/draw";
import { layoutOf, partOf } from "../src/state/grid";
import { secondsOf } from "../src/state/library";
import { blocksOf } from "../src/state/markdown";
import { type Mark, markOf } from "../src/state/mask";
import { sizeOf } from "../src/state/models";
import { keyOf, nearest, placesOf, sharesAt } from "../src/state/plane";
import { parsed, short } from "../src/state/saved";
import { FIT, fitOf, panned, zoomed } from "../src/state/viewport";

const box = { width: 400, height: 300 };

describe("the viewport", () => {
  it("fits a stage into its box, and enlarges a small one", () => {
    expect(fitOf({ width: 752, height: 100 }, box)).toBeCloseTo(0.5);
    expect(fitOf({ width: 64, height: 64 }, box)).toBeCloseTo((300 - 24) / 64);
  });

  it("keeps under the pointer what was under it", () => {
    const point = { x: 50, y: -20 };
    const shot = zoomed(FIT, 2, point, box);
    // a point p of the stage lies at shot.x + p * scale: what was at `point` with scale 1 is there still
    expect(shot.x + point.x * shot.scale).toBeCloseTo(point.x);
    expect(shot.y + point.y * shot.scale).toBeCloseTo(point.y);
  });

  it("does not lose the picture, and what fits does not move", () => {
    expect(panned(FIT, 40, 40, box)).toEqual(FIT);
    const far = panned({ scale: 2, x: 0, y: 0 }, 10_000, -10_000, box);
    expect(far).toEqual({ scale: 2, x: 400, y: -300 });
    expect(zoomed({ scale: 2, x: 30, y: 0 }, 0.1, { x: 0, y: 0 }, box)).toEqual(FIT);
  });
});

describe("the grid of the library", () => {
  it("puts no more pictures on the page than are in sight, however many are kept", () => {
    const layout = layoutOf(1190, 10_000, 150, 10);
    expect(layout.columns).toBe(7);
    for (const top of [0, 5000, 1e6, layout.rows * layout.cell]) {
      const part = partOf(layout, 10_000, top, 800);
      expect(part.last - part.first).toBeLessThan(layout.columns * 14);
      const rows = (part.last - part.first) / layout.columns;
      expect(part.before + part.after + Math.ceil(rows) * layout.cell).toBeCloseTo(layout.rows * layout.cell);
    }
  });

  it("shows all of a few, and two columns on the smallest screen", () => {
    const layout = layoutOf(330, 3, 150, 10);
    expect(layout.columns).toBe(2);
    expect(partOf(layout, 3, -200, 700)).toEqual({ first: 0, last: 3, before: 0, after: 0 });
  });
});

describe("the plane of mixtures", () => {
  it("has shares that sum to one, and in each corner its own picture alone", () => {
    for (const count of [3, 4]) {
      const places = placesOf(count);
      for (const place of places) {
        const shares = sharesAt(place, count);
        expect(shares).toHaveLength(count);
        expect(shares.reduce((sum, share) => sum + share)).toBeCloseTo(1);
        for (const share of shares) expect(share).toBeGreaterThanOrEqual(-1e-9);
      }
      for (let one = 0; one < count; one++) {
        expect(places.some((place) => Math.abs((sharesAt(place, count)[one] ?? 0) - 1) < 1e-9)).toBe(true);
      }
      expect(new Set(places.map(keyOf)).size).toBe(places.length);
    }
  });

  it("draws what is nearest to the hand first", () => {
    expect(nearest(placesOf(4), { x: 0.9, y: 0.1 })[0]).toEqual({ x: 1, y: 0 });
  });
});

describe("options of a model", () => {
  const option = (more: Partial<Option>): Option =>
    ({ name: "guidance", minimum: 0, maximum: 50, whole: false, choices: [], default: 2, ...more }) as Option;

  it("take what is in their range, and nothing, which leaves it to the model", () => {
    for (const text of ["", "0", "2.5", "50"]) expect(fits(option({}), text)).toBe(true);
    for (const text of ["-1", "51", "much", "1e999"]) expect(fits(option({}), text)).toBe(false);
    expect(fits(option({ whole: true }), "2.5")).toBe(false);
    expect(fits(option({ choices: ["ar", "none"] }), "diffusion")).toBe(false);
    expect(fits(option({ name: "steps", whole: true }), "fast27")).toBe(true);
  });

  it("come back from a picture's file, where it is one of this program's", () => {
    const found = { prompt: "a red apple", seed: "18446744073709551615", index: "2", size: "64" };
    const origin = { proof: "labelled", settings: found } as unknown as Origin;
    expect(recipeOf(origin, 0)).toMatchObject({ prompt: "a red apple", seed: "18446744073709551615", index: 2 });
    expect(recipeOf({ ...origin, settings: { Software: "another" } }, 0)).toBeNull();
  });

  it("prompts are in the page's language where the bundle has them", () => {
    const model = { prompts: { en: ["a star"], ko: ["별"] } } as unknown as Model;
    expect(promptsOf(model, "ko")).toEqual(["별"]);
    expect(promptsOf(model, "de")).toEqual(["a star"]);
    expect(promptsOf(undefined, "de")).toEqual([]);
  });
});

describe("marks", () => {
  const points = [{ x: 1.23456, y: 2 }, { x: 9, y: 8 }];

  it("are made of a pointer's way, and the other way round with a held key", () => {
    expect(markOf("eraser", points, 8, 0, false)).toMatchObject({ kind: "stroke", erase: true });
    expect(markOf("eraser", points, 8, 0, true)).toMatchObject({ erase: false });
    expect(markOf("lasso", points, 8, 0, true)).toMatchObject({ kind: "lasso", erase: true });
    expect(markOf("rectangle", points, 8, 0, false)).toMatchObject({ from: points[0], to: points[1] });
  });

  it("are saved with no more digits than can be seen, and another version's document is left alone", () => {
    expect(short([{ kind: "lasso", erase: false, points } as Mark])).toEqual([
      { kind: "lasso", erase: false, points: [{ x: 1.2, y: 2 }, { x: 9, y: 8 }] },
    ]);
    expect(parsed("{")).toBeNull();
    expect(parsed('{"version": 2, "marks": []}')).toBeNull();
    expect(parsed('{"version": 1, "marks": []}')).not.toBeNull();
  });
});

it("a card is read as blocks, and what looks like markup stays text", () => {
  const card = "# tiny\n\nA <b>bundle</b>\nof tests.\n\n- one\n  more\n- two\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n```\nx | y\n```\n";
  expect(blocksOf(card)).toEqual([
    { kind: "heading", level: 1, text: "tiny" },
    { kind: "paragraph", text: "A <b>bundle</b> of tests." },
    { kind: "list", items: ["one more", "two"] },
    { kind: "table", rows: [["a", "b"], ["1", "2"]] },
    { kind: "code", text: "x | y" },
  ]);
  expect(blocksOf("```\nnever closed")).toEqual([{ kind: "code", text: "never closed" }]);
});

it("bytes and days are said as people do", () => {
  expect([0, 999, 50_300_000, 1_600_000_000].map(sizeOf)).toEqual(["0 B", "999 B", "50 MB", "1.6 GB"]);
  expect(secondsOf("2026-11-30", 1) - secondsOf("2026-11-30", 0)).toBe(86_400);
});
