import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { de } from "../src/languages/de";
import { en } from "../src/languages/en";
import { ko } from "../src/languages/ko";
import { choose, fitting, t } from "../src/state/words";

const SOURCE = join(import.meta.dirname, "../src");
const files = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? files(join(folder, entry.name)) : [join(folder, entry.name)],
  );

it("every language has the same words, none of them empty, with the same values in them", () => {
  const holes = (text: string): string[] => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
  for (const other of [ko, de]) {
    expect(Object.keys(other).sort()).toEqual(Object.keys(en).sort());
    for (const [key, text] of Object.entries(other)) {
      expect(text.trim()).not.toBe("");
      expect(holes(text), key).toEqual(holes(en[key as keyof typeof en]));
    }
  }
});

it("every word is used", () => {
  const views = files(SOURCE).filter((name) => !name.includes("languages") && !name.includes("schema"));
  const text = views.map((name) => readFileSync(name, "utf8")).join("\n");
  // put together of a beginning and a name: `canvas.missing.${missing}`
  const beginnings = [...text.matchAll(/`([a-z]+(?:\.[a-z]+)*\.)\$\{/g)].map((found) => found[1] as string);
  const used = (key: string): boolean => text.includes(`"${key}"`) || beginnings.some((one) => key.startsWith(one));
  expect(Object.keys(en).filter((key) => !used(key))).toEqual([]);
});

it("no file is longer than 300 lines, but for what is generated", () => {
  const long = files(SOURCE).filter(
    (name) => !name.endsWith("schema.ts") && readFileSync(name, "utf8").split("\n").length > 300,
  );
  expect(long).toEqual([]);
});

it("the state knows no DOM", () => {
  for (const name of files(join(SOURCE, "state"))) {
    expect(readFileSync(name, "utf8"), name).not.toMatch(/\bdocument\.|\bwindow\./);
  }
});

it("the browser's language is taken where the page speaks it", () => {
  expect(fitting(["ko-KR", "en"])).toBe("ko");
  expect(fitting(["fr", "de-AT"])).toBe("de");
  expect(fitting([])).toBe("en");
});

it("words are filled in, and text that looks like markup stays text", () => {
  choose("de");
  expect(t("job.queued", { ahead: 3 })).toBe("Wartet, 3 davor");
  expect(t("job.failed", { reason: "<b>{x}</b>" })).toBe("Fehlgeschlagen: <b>{x}</b>");
  choose("en");
});
