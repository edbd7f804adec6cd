/** The view Folder: pictures of the server's owner, indexed and searched. */

import { computed, signal } from "@preact/signals";
import * as api from "../api/client";
import { attempt, model, view } from "./app";
import * as canvas from "./canvas";

const REST = 700; // milliseconds between two looks at how far an index is
export const folders = signal<readonly api.Folder[] | null>(null);
const chosenId = signal<string | null>(null);
export const folder = computed(() => folders.value?.find((one) => one.id === chosenId.value) ?? folders.value?.[0]);
export const text = signal("");
export const without = signal("");
export const like = signal<{ blob: Blob; name: string; url: string } | null>(null);
export const hits = signal<readonly api.FolderHit[] | null>(null);
export const searching = signal(false);
export const open = signal<api.FolderHit | null>(null);
let request = 0;
let watching: ReturnType<typeof setTimeout> | undefined;

export async function load(): Promise<void> {
  const growing = folder.value?.state === "running";
  const found = await attempt(api.folders);
  if (found) folders.value = found;
  if (growing && folder.value?.state !== "running") void search(); // what was asked meanwhile found little or nothing
  clearTimeout(watching);
  const unsettled = (one: api.Folder): boolean => one.state === "running" || (one.state === "done" && !one.indexed);
  if (found?.some(unsettled)) watching = setTimeout(() => void load(), REST);
}

export function choose(id: string): void {
  chosenId.value = id;
  hits.value = null;
}

export async function index(one: api.Folder): Promise<void> {
  await attempt(() => api.indexFolder(one.id, model.value?.id ?? null));
  await load();
}

export async function stop(one: api.Folder): Promise<void> {
  await attempt(() => api.stopIndexing(one.id));
  await load();
}

/** Search by what is written, by the picture, or by both. An answer that a newer search has overtaken is dropped. */
export async function search(): Promise<void> {
  const [one, given, words] = [folder.value, like.value, text.value.trim()];
  if (!one?.indexed || (words === "" && !given)) {
    hits.value = null;
    return;
  }
  const mine = ++request;
  searching.value = true;
  const no = without.value.split(",").map((word) => word.trim());
  const found = await attempt(async () =>
    api.searchFolder(one.id, {
      text: words || null,
      image: given ? await api.dataOf(given.blob) : null,
      without: no.filter((word) => word !== ""),
      limit: 60,
      threshold: 0,
    }),
  );
  if (mine !== request) return;
  searching.value = false;
  if (found) hits.value = found;
}

export function setLike(blob: Blob | null, name = ""): void {
  if (like.value) URL.revokeObjectURL(like.value.url);
  like.value = blob && { blob, name, url: URL.createObjectURL(blob) };
  void search();
}

/** A picture of the folder, its file. */
export async function fileOf(hit: api.FolderHit): Promise<File | undefined> {
  const one = folder.value;
  const blob = one && (await attempt(() => api.folderBlob(one.id, hit.number)));
  return blob && new File([blob], hit.name, { type: blob.type });
}

export async function edit(hit: api.FolderHit): Promise<void> {
  const file = await fileOf(hit);
  open.value = null;
  if (file) await canvas.openNew(file, hit.name);
}

export async function similar(hit: api.FolderHit): Promise<void> {
  const file = await fileOf(hit);
  open.value = null;
  text.value = "";
  view.value = "folder";
  if (file) setLike(file, hit.name);
}
