/** The view Edit: a picture, its mask or the frame around it, what was drawn into it. */

import { computed, effect, signal } from "@preact/signals";
import * as api from "../api/client";
import { attempt, can, model, view } from "./app";
import { jobs, resume, submit } from "./jobs";
import { reload } from "./library";
import { Marks, type Tool } from "./mask";
import { FIT, type Shot } from "./viewport";

export type Mode = "mask" | "extend";
export interface Source {
  blob: Blob;
  name: string;
  width: number;
  height: number;
  picture: string | null; // its id, where it is kept
}
export type Margins = Record<"left" | "right" | "top" | "bottom", number>;

export const NONE: Margins = { left: 0, right: 0, top: 0, bottom: 0 };
export const LARGEST_MARGIN = 4096; // pixels, as the server has it
export const source = signal<Source | null>(null);
export const marks = new Marks();
export const mode = signal<Mode>("mask");
export const tool = signal<Tool>("brush");
export const width = signal(40);
export const softness = signal(0);
export const prompt = signal("");
export const count = signal(3);
export const results = signal<readonly api.Picture[]>([]);
export const shown = signal<string | null>(null); // a result in place of the picture
export const split = signal(0); // percent of the picture before that is shown over a result
export const margins = signal<Margins>(NONE);
export const tiles = signal<api.Tiles | null>(null);
export const shot = signal<Shot>(FIT);
export const drawing = signal<string | null>(null);
export const opened = signal(0); // how many pictures were opened anew

export const job = computed(() => jobs.value.find((one) => one.id === drawing.value));
export const busy = computed(() => job.value !== undefined && !api.isOver(job.value));
export const extended = computed(() => Object.values(margins.value).some((margin) => margin > 0));
export const framed = computed(() => {
  const given = source.value;
  const { left, right, top, bottom } = mode.value === "extend" ? margins.value : NONE;
  return { width: (given?.width ?? 0) + left + right, height: (given?.height ?? 0) + top + bottom };
});
export const result = computed(() => results.value.find((one) => one.id === shown.value));
/** What is missing before it can be drawn; null where nothing is. */
export const missing = computed<"mask" | "margins" | "prompt" | null>(() => {
  if (mode.value === "mask" && marks.shown.value.length === 0) return "mask";
  if (mode.value === "extend" && !extended.value) return "margins";
  return mode.value === "extend" && prompt.value.trim() === "" ? "prompt" : null;
});
export const ready = computed(
  () => source.value !== null && missing.value === null && can(mode.value === "mask" ? "edit" : "outpaint"),
);

/** Take a picture's file; its size is that of its pixels, turned as its camera says. */
export async function openBlob(blob: Blob, name: string, picture: string | null = null): Promise<boolean> {
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" }).catch(() => null);
  if (!bitmap) return false;
  source.value = { blob, name, width: bitmap.width, height: bitmap.height, picture };
  bitmap.close();
  marks.reset();
  margins.value = NONE;
  results.value = [];
  shown.value = null;
  drawing.value = null;
  shot.value = FIT;
  width.value = Math.max(8, Math.round(Math.min(source.value.width, source.value.height) / 8));
  return true;
}

/** Open a picture in place of what was there. */
export async function openNew(blob: Blob, name: string, picture: string | null = null): Promise<void> {
  opened.value += 1;
  if (await openBlob(blob, name, picture)) view.value = "canvas";
}

export async function openPicture(picture: api.Picture): Promise<void> {
  const blob = await attempt(() => api.blobOf(picture.id));
  if (!blob) return;
  await openNew(blob, picture.prompt, picture.id);
  prompt.value = picture.prompt;
}

export function setMargin(side: keyof Margins, value: number): void {
  const within = Math.max(0, Math.min(LARGEST_MARGIN, Math.round(value) || 0));
  margins.value = { ...margins.value, [side]: within };
}

function over(done: api.Job): void {
  const there = new Set(results.value.map((one) => one.id));
  const drawn = done.pictures.filter((one) => !there.has(one.id));
  if (drawn.length === 0) return; // it was over before the page was loaded again
  results.value = [...drawn, ...results.value].slice(0, 24);
  shown.value = drawn[0]?.id ?? shown.value;
  split.value = 0;
  void reload();
}

/** Have it drawn: into the mask, or around the picture. */
export async function draw(mask: () => Promise<Blob>): Promise<void> {
  const given = source.value;
  if (!given || !ready.value) return;
  const asked = { model: model.value?.id, image: given.blob, prompt: prompt.value.trim(), n: count.value };
  const started =
    mode.value === "extend"
      ? await submit("outpaint", { ...asked, ...margins.value }, over)
      : await submit("edit", { ...asked, mask: await mask(), feather: marks.soft.value ? "mask" : "" }, over);
  drawing.value = started?.id ?? null;
}

/** A job that was begun before the page was loaded again. */
export function takeUp(id: string): void {
  drawing.value = id;
  void resume(id, over);
}

/** Go on from a result. */
export async function keep(): Promise<void> {
  const one = result.value;
  const blob = one === undefined ? undefined : await attempt(() => api.blobOf(one.id));
  if (one && blob) await openBlob(blob, source.value?.name ?? one.prompt, one.id);
}

/** The tiles of the frame as it is now, asked for when it has come to rest. */
let asking: ReturnType<typeof setTimeout> | undefined;
effect(() => {
  const given = source.value;
  const wanted = { model: model.value?.id ?? null, ...margins.value };
  clearTimeout(asking);
  tiles.value = null;
  if (!given || mode.value !== "extend" || !extended.value || !can("outpaint")) return;
  asking = setTimeout(() => {
    void attempt(() => api.tiles({ ...wanted, width: given.width, height: given.height })).then((found) => {
      if (found && source.value === given) tiles.value = found;
    });
  }, 200);
});
