/** The view Edit: a picture, its mask, what was drawn into it. */

import { computed, signal } from "@preact/signals";
import * as api from "../api/client";
import { attempt, can, model, view } from "./app";
import { jobs, submit } from "./jobs";
import { reload } from "./library";
import { Marks, type Tool } from "./mask";

export const source = signal<{ blob: Blob; name: string; width: number; height: number } | null>(null);
export const marks = new Marks();
export const tool = signal<Tool>("brush");
export const width = signal(40);
export const prompt = signal("");
export const count = signal(3);
export const results = signal<readonly api.Picture[]>([]);
export const shown = signal<string | null>(null); // a result in place of the picture
export const margins = signal({ left: 0, right: 0, top: 0, bottom: 0 });
const drawing = signal<string | null>(null);

export const job = computed(() => jobs.value.find((one) => one.id === drawing.value));
export const busy = computed(() => job.value !== undefined && !api.isOver(job.value));
export const ready = computed(
  () => source.value !== null && marks.shown.value.length > 0 && prompt.value.trim() !== "" && can("edit"),
);
export const extends_ = computed(() => Object.values(margins.value).some((margin) => margin > 0));

/** Take a picture's file; its size is that of its pixels, turned as its camera says. */
export async function openBlob(blob: Blob, name: string): Promise<void> {
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" }).catch(() => null);
  if (!bitmap) return;
  source.value = { blob, name, width: bitmap.width, height: bitmap.height };
  bitmap.close();
  marks.reset();
  results.value = [];
  shown.value = null;
}

export async function openPicture(picture: api.Picture): Promise<void> {
  const blob = await attempt(() => api.blobOf(picture.id));
  if (!blob) return;
  await openBlob(blob, picture.prompt);
  prompt.value = picture.prompt;
  view.value = "canvas";
}

function over(done: api.Job): void {
  results.value = done.pictures;
  shown.value = done.pictures[0]?.id ?? null;
  void reload();
}

export async function edit(mask: Blob): Promise<void> {
  const given = source.value;
  if (!given || !ready.value) return;
  const started = await submit(
    "edit",
    { model: model.value?.id, image: given.blob, mask, prompt: prompt.value.trim(), n: count.value },
    over,
  );
  drawing.value = started?.id ?? null;
}

export async function extend(): Promise<void> {
  const given = source.value;
  if (!given || !extends_.value || prompt.value.trim() === "") return;
  const asked = { model: model.value?.id, image: given.blob, prompt: prompt.value.trim(), n: 1, ...margins.value };
  const started = await submit("outpaint", asked, over);
  drawing.value = started?.id ?? null;
}

/** Go on from a result. */
export async function keep(): Promise<void> {
  const id = shown.value;
  const blob = id === null ? undefined : await attempt(() => api.blobOf(id));
  if (blob) await openBlob(blob, source.value?.name ?? "picture");
}
