/** Pictures of the library that are chosen together, and what is done with them. */

import { computed, signal } from "@preact/signals";
import type { Picture } from "../api/client";
import { view } from "./app";
import * as library from "./library";

export const choosing = signal(false);
/** In the order in which they were chosen; what another search does not find stays among them. */
const held = signal<ReadonlyMap<string, Picture>>(new Map());
let last: string | null = null;

export const chosen = computed(() => {
  const shown = new Map(library.pictures.value.map((one) => [one.id, one]));
  return [...held.value.values()].map((one) => shown.get(one.id) ?? one);
});
export const comparing = signal<readonly [Picture, Picture] | null>(null);
export const MOST_ZIPPED = 100; // of one archive, as the server has it

export const isChosen = (picture: Picture): boolean => held.value.has(picture.id);

/** Choose one, or not any more; with `range`, all from the one before to this. */
export function toggle(picture: Picture, range: boolean): void {
  const all = library.pictures.value;
  const found = new Map(held.value);
  const from = all.findIndex((one) => one.id === last);
  const to = all.findIndex((one) => one.id === picture.id);
  if (range && from >= 0) {
    for (const one of all.slice(Math.min(from, to), Math.max(from, to) + 1)) found.set(one.id, one);
  } else if (!found.delete(picture.id)) found.set(picture.id, picture);
  held.value = found;
  last = picture.id;
}

/** Go to the library to choose one picture there, or several. */
export function begin(several: boolean): void {
  view.value = "library";
  choosing.value = several;
}

export function stop(): void {
  choosing.value = false;
  held.value = new Map();
  last = null;
}

export function all(): void {
  held.value = new Map([...held.value, ...library.pictures.value.map((one) => [one.id, one] as const)]);
}

export async function starAll(): Promise<void> {
  await library.changeAll(chosen.value, { starred: !chosen.value.every((one) => one.starred) });
}

export async function removeAll(): Promise<void> {
  const gone = chosen.value;
  stop();
  await library.remove(gone);
}

export async function restoreAll(): Promise<void> {
  const back = chosen.value;
  stop();
  await library.changeAll(back, { deleted: false });
}

export async function boardAll(name: string): Promise<void> {
  const some = chosen.value;
  stop();
  await library.changeAll(some, { board: name });
}

export function compare(): void {
  const [one, other] = chosen.value;
  if (one && other) comparing.value = [one, other];
}
