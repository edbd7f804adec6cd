/** The view Vary: variations, blends and changes by words, of pictures that are chosen. */

import { computed, signal } from "@preact/signals";
import * as api from "../api/client";
import { attempt, model, view } from "./app";
import { jobs, submit } from "./jobs";
import { reload } from "./library";

export type Way = "vary" | "blend" | "restyle";
export interface Chosen {
  name: string;
  blob: Blob;
  url: string;
}

export const MOST: Record<Way, number> = { vary: 1, blend: 4, restyle: 1 };
export const way = signal<Way>("vary");
export const chosen = signal<readonly Chosen[]>([]);
export const count = signal(4);
export const strength = signal(0.7);
export const origin = signal("");
export const target = signal("");
export const frames = signal(8);
export const frame = signal(0);
export const results = signal<readonly api.Picture[]>([]);
const drawing = signal<string | null>(null);

export const job = computed(() => jobs.value.find((one) => one.id === drawing.value));
export const busy = computed(() => job.value !== undefined && !api.isOver(job.value));
export const used = computed(() => chosen.value.slice(0, MOST[way.value]));
export const ready = computed(() => {
  if (way.value === "blend") return used.value.length >= 2;
  return used.value.length === 1 && (way.value === "vary" || target.value.trim() !== "");
});

export function add(blob: Blob, name: string): void {
  const one = { blob, name, url: URL.createObjectURL(blob) };
  const before = MOST[way.value] === 1 ? [] : chosen.value.slice(0, MOST[way.value] - 1);
  for (const gone of chosen.value) if (!before.includes(gone)) URL.revokeObjectURL(gone.url);
  chosen.value = [...before, one];
}

export function drop(one: Chosen): void {
  URL.revokeObjectURL(one.url);
  chosen.value = chosen.value.filter((other) => other !== one);
}

export async function take(picture: api.Picture, what: Way): Promise<void> {
  const blob = await attempt(() => api.blobOf(picture.id));
  if (!blob) return;
  way.value = what;
  add(blob, picture.prompt);
  view.value = "make";
}

export async function make(): Promise<void> {
  if (!ready.value) return;
  const images = used.value.map((one) => one.blob);
  const asked: Record<Way, Record<string, api.Value>> = {
    vary: { image: images[0], n: count.value, strength: strength.value },
    blend: { image: images, frames: frames.value },
    restyle: { image: images[0], prompt: target.value.trim(), origin: origin.value.trim(), frames: frames.value },
  };
  results.value = [];
  const started = await submit(way.value, { model: model.value?.id, ...asked[way.value] }, (done) => {
    results.value = done.pictures;
    frame.value = done.pictures.length - 1;
    void reload();
  });
  drawing.value = started?.id ?? null;
}
