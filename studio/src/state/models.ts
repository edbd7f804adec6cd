/** The view Models: what is served, loaded and let go, and its cards. */

import { computed, signal } from "@preact/signals";
import * as api from "../api/client";
import { attempt, loadModels } from "./app";
import { numberOf } from "./words";

export const cards = signal<ReadonlyMap<string, string>>(new Map());
/** Models that are being loaded or let go now. */
export const changing = signal<ReadonlySet<string>>(new Set());

const REST = 1000; // milliseconds between two looks at what is being fetched
export const known = signal<readonly api.Known[]>([]);
let watching: ReturnType<typeof setTimeout> | undefined;

const coming = (one: api.Known): boolean => one.pull?.state === "running" || one.pull?.state === "queued";
/** Models that are not served: those that can be fetched, and what of them is on its way. */
export const others = computed(() => known.value.filter((one) => !one.served && (one.can_pull || one.on_disk)));

export async function loadKnown(): Promise<void> {
  const before = known.value.filter(coming).length;
  const found = await attempt(api.known);
  if (!found) return;
  known.value = found;
  clearTimeout(watching);
  const now = found.filter(coming).length;
  if (now > 0) watching = setTimeout(() => void loadKnown(), REST);
  if (now < before) await loadModels(); // one has come
}

export async function fetch(id: string, stop = false): Promise<void> {
  await attempt(() => api.pull(id, stop));
  await loadKnown();
}

export async function setLoaded(id: string, load: boolean): Promise<void> {
  changing.value = new Set([...changing.value, id]);
  await attempt(() => api.setLoaded(id, load));
  changing.value = new Set([...changing.value].filter((one) => one !== id));
  await Promise.all([loadModels(), loadKnown()]);
}

export async function readCard(id: string): Promise<void> {
  if (cards.value.has(id)) return;
  const text = await attempt(() => api.card(id));
  if (text !== undefined) cards.value = new Map([...cards.value, [id, text]]);
}

/** Bytes in a unit that is read at a glance. */
export function sizeOf(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${numberOf(value, value < 10 && power > 0 ? 1 : 0)} ${units[power]}`;
}
