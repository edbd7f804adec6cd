/** Pictures of the library that are chosen together, and what is done with them. */

import { computed, signal } from "@preact/signals";
import type { Picture } from "../api/client";
import * as library from "./library";

export const choosing = signal(false);
const ids = signal<ReadonlySet<string>>(new Set());
let last: string | null = null;

export const chosen = computed(() => library.pictures.value.filter((one) => ids.value.has(one.id)));
export const comparing = signal<readonly [Picture, Picture] | null>(null);
export const MOST_ZIPPED = 100; // of one archive, as the server has it

export const isChosen = (picture: Picture): boolean => ids.value.has(picture.id);

/** Choose one, or not any more; with `range`, all from the one before to this. */
export function toggle(picture: Picture, range: boolean): void {
  const all = library.pictures.value;
  const found = new Set(ids.value);
  const from = all.findIndex((one) => one.id === last);
  const to = all.findIndex((one) => one.id === picture.id);
  if (range && from >= 0) {
    for (const one of all.slice(Math.min(from, to), Math.max(from, to) + 1)) found.add(one.id);
  } else if (!found.delete(picture.id)) found.add(picture.id);
  ids.value = found;
  last = picture.id;
}

export function stop(): void {
  choosing.value = false;
  ids.value = new Set();
  last = null;
}

export function all(): void {
  ids.value = new Set(library.pictures.value.map((one) => one.id));
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
