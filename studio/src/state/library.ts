/** Kept pictures, page by page, as a filter finds them, or in the order of a search through CLIP. */

import { computed, signal } from "@preact/signals";
import * as api from "../api/client";
import { attempt, model, notice } from "./app";
import { t } from "./words";

export type Shelf = "all" | "starred" | "bin";

export const shelf = signal<Shelf>("all");
export const board = signal("");
export const bundle = signal("");
export const since = signal("");
export const until = signal("");
export const text = signal("");
/** Whether the text is looked for in prompts, or its meaning in pictures. */
export const bySight = signal(false);
export const like = signal<{ blob: Blob; url: string; name: string } | null>(null);
export const pictures = signal<readonly api.Picture[]>([]);
export const next = signal<number | null>(null);
export const loading = signal(false);
export const loaded = signal(false);
export const open = signal<api.Picture | null>(null);
export const boards = signal<readonly api.Board[]>([]);
export const searching = computed(() => like.value !== null || (bySight.value && text.value.trim() !== ""));
export const filtered = computed(
  () => text.value !== "" || like.value !== null || board.value !== "" || bundle.value !== "" || dated.value,
);
const dated = computed(() => since.value !== "" || until.value !== "");
let request = 0;

function filter(): api.Filter {
  return {
    ...(text.value && !bySight.value ? { text: text.value } : {}),
    ...(shelf.value === "starred" ? { starred: true } : {}),
    ...(shelf.value === "bin" ? { deleted: true } : {}),
    ...(board.value ? { board: board.value } : {}),
    ...(bundle.value ? { model: bundle.value } : {}),
    ...(since.value ? { since: secondsOf(since.value, 0) } : {}),
    ...(until.value ? { until: secondsOf(until.value, 1) } : {}),
  };
}

/** Seconds since 1970 at which a day begins where the person is, or so many days later. */
export function secondsOf(day: string, later: number): number {
  const [year = 1970, month = 1, date = 1] = day.split("-").map(Number);
  return new Date(year, month - 1, date + later).getTime() / 1000;
}

async function found(): Promise<{ data: readonly api.Picture[]; next: number | null } | undefined> {
  if (!searching.value) return attempt(() => api.pictures(filter(), null));
  const given = like.value;
  const query = given ? { image: given.blob } : { text: text.value.trim() };
  const hits = await attempt(() => api.search(query, model.value?.id));
  return hits && { data: hits.map((hit) => hit.picture), next: null };
}

/** The first page. An answer that a newer request has overtaken is dropped. */
export async function reload(): Promise<void> {
  const mine = ++request;
  loading.value = true;
  const page = await found();
  if (mine !== request) return;
  loading.value = false;
  if (page) {
    pictures.value = page.data;
    next.value = page.next;
    loaded.value = true;
  }
}

export async function more(): Promise<void> {
  if (next.value === null || loading.value) return;
  const mine = request;
  loading.value = true;
  const page = await attempt(() => api.pictures(filter(), next.value));
  if (mine !== request) return;
  loading.value = false;
  if (!page) return;
  const known = new Set(pictures.value.map((one) => one.id));
  pictures.value = [...pictures.value, ...page.data.filter((one) => !known.has(one.id))];
  next.value = page.next;
}

export async function loadBoards(): Promise<void> {
  const names = await attempt(api.boards);
  if (names) boards.value = names;
}

/** Take a board away; its pictures stay. */
export async function dropBoard(name: string): Promise<void> {
  await attempt(() => api.deleteBoard(name));
  if (board.value === name) board.value = "";
  await Promise.all([reload(), loadBoards()]);
}

/** The pictures that are nearest to this one, as CLIP sees them. */
export async function findLike(blob: Blob, name: string): Promise<void> {
  forgetLike();
  text.value = "";
  like.value = { blob, name, url: URL.createObjectURL(blob) };
  await reload();
}

export function forgetLike(): void {
  if (like.value) URL.revokeObjectURL(like.value.url);
  like.value = null;
}

export function clearFilter(): void {
  forgetLike();
  for (const one of [text, board, bundle, since, until]) one.value = "";
  void reload();
}

export async function change(id: string, changes: api.Change): Promise<api.Picture | undefined> {
  const one = await attempt(() => api.change(id, changes));
  if (!one) return undefined;
  const belongs = shelf.value === "bin" ? one.deleted : !one.deleted;
  pictures.value = belongs
    ? pictures.value.map((other) => (other.id === id ? one : other))
    : pictures.value.filter((other) => other.id !== id);
  if (open.value?.id === id) open.value = one;
  return one;
}

export const star = (picture: api.Picture): Promise<unknown> => change(picture.id, { starred: !picture.starred });
export const restore = (picture: api.Picture): Promise<unknown> => change(picture.id, { deleted: false });

export async function putOnBoard(picture: api.Picture, name: string): Promise<void> {
  await change(picture.id, { board: name });
  await loadBoards();
}

/** The same of several pictures at once. Returns those that were there. */
export async function changeAll(several: readonly api.Picture[], changes: api.Change): Promise<readonly api.Picture[]> {
  const ids = await attempt(() => api.changeAll(several.map((one) => one.id), changes));
  await Promise.all([reload(), loadBoards()]);
  return several.filter((one) => ids?.includes(one.id));
}

/** Into the bin, with an undo. */
export async function remove(several: readonly api.Picture[]): Promise<void> {
  const gone = await changeAll(several, { deleted: true });
  if (gone.length === 0) return;
  open.value = null;
  notice.value = {
    text: gone.length === 1 ? t("picture.deleted") : t("select.deleted", { count: gone.length }),
    undo: () => void changeAll(gone, { deleted: false }),
  };
}

/** The picture before or behind the one that is open. */
export function step(by: 1 | -1): void {
  const at = pictures.value.findIndex((one) => one.id === open.value?.id);
  const one = at < 0 ? undefined : pictures.value[at + by];
  if (one) open.value = one;
  if (at + by > pictures.value.length - 10) void more();
}
