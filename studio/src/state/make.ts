/** The view Vary: variations, blends and changes by words, of pictures that are chosen. */

import { computed, signal } from "@preact/signals";
import * as api from "../api/client";
import { attempt, model, view } from "./app";
import { jobs, submit } from "./jobs";
import { reload } from "./library";

export const WAYS = ["vary", "blend", "restyle"] as const;
export type Way = (typeof WAYS)[number];
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
export const frames = signal(9);
export const frame = signal(0);
export const results = signal<readonly api.Picture[]>([]);
export const variations = signal<readonly { strength: number; job: api.Job }[]>([]);
const drawing = signal<string | null>(null);

export const job = computed(() => jobs.value.find((one) => one.id === drawing.value));
export const busy = computed(() => job.value !== undefined && !api.isOver(job.value));
/** Of a frame, how far it is along the way, 0 to 1; the policy may have withheld some of them. */
export const shareOf = (picture: api.Picture | undefined): number =>
  (picture?.index ?? 0) / Math.max(1, (job.value?.n ?? results.value.length) - 1);
export const used = computed(() => chosen.value.slice(0, MOST[way.value]));
/** Three and four pictures are blended on a plane, two along a line. */
export const onPlane = computed(() => way.value === "blend" && used.value.length > 2);
export const ready = computed(() => {
  if (way.value === "blend") return used.value.length >= 2;
  return used.value.length === 1 && (way.value === "vary" || target.value.trim() !== "");
});

export function choose(what: Way): void {
  if (way.value === what) return;
  way.value = what;
  forget();
}

/** What was made of other pictures is in the library; here it goes. */
export function forget(): void {
  results.value = [];
  variations.value = [];
  drawing.value = null;
}

export function add(blob: Blob, name: string): void {
  const one = { blob, name, url: URL.createObjectURL(blob) };
  const before = MOST[way.value] === 1 ? [] : chosen.value.slice(0, MOST[way.value] - 1);
  for (const gone of chosen.value) if (!before.includes(gone)) URL.revokeObjectURL(gone.url);
  chosen.value = [...before, one];
  forget();
}

export function drop(one: Chosen): void {
  URL.revokeObjectURL(one.url);
  chosen.value = chosen.value.filter((other) => other !== one);
  forget();
}

/** A picture earlier or later among those that are blended. */
export function move(one: Chosen, by: 1 | -1): void {
  const others = chosen.value.filter((other) => other !== one);
  const at = chosen.value.indexOf(one) + by;
  if (at < 0 || at > others.length) return;
  chosen.value = [...others.slice(0, at), one, ...others.slice(at)];
  forget();
}

export async function take(pictures: readonly api.Picture[], what: Way): Promise<void> {
  choose(what);
  if (pictures.length > 1) for (const one of chosen.value) drop(one); // several are all that is meant
  for (const picture of pictures.slice(0, MOST[what])) {
    const blob = await attempt(() => api.blobOf(picture.id));
    if (blob) add(blob, picture.prompt);
  }
  if (what === "restyle") origin.value = pictures[0]?.prompt ?? ""; // it shows what it was drawn of
  view.value = "make";
}

function over(done: api.Job): void {
  if (way.value === "vary") {
    if (done.pictures.length > 0) {
      const used = Number(done.pictures[0]?.settings["strength"] ?? strength.value);
      variations.value = [{ strength: used, job: done }, ...variations.value];
    }
  } else {
    results.value = done.pictures;
    frame.value = way.value === "restyle" ? done.pictures.length - 1 : Math.floor((done.pictures.length - 1) / 2);
  }
  void reload();
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
  const started = await submit(way.value, { model: model.value?.id, ...asked[way.value] }, over);
  drawing.value = started?.id ?? null;
}
