/** Kept pictures, page by page, as a filter finds them. */

import { signal } from "@preact/signals";
import * as api from "../api/client";
import { attempt, notice } from "./app";
import { t } from "./words";

export type Shelf = "all" | "starred" | "bin";

export const shelf = signal<Shelf>("all");
export const text = signal("");
export const pictures = signal<readonly api.Picture[]>([]);
export const next = signal<number | null>(null);
export const loading = signal(false);
export const open = signal<api.Picture | null>(null);
let request = 0;

function filter(): api.Filter {
  return {
    ...(text.value ? { text: text.value } : {}),
    ...(shelf.value === "starred" ? { starred: true } : {}),
    ...(shelf.value === "bin" ? { deleted: true } : {}),
  };
}

/** The first page. An answer that a newer request has overtaken is dropped. */
export async function reload(): Promise<void> {
  const mine = ++request;
  loading.value = true;
  const page = await attempt(() => api.pictures(filter(), null));
  if (mine !== request) return;
  loading.value = false;
  if (page) {
    pictures.value = page.data;
    next.value = page.next;
  }
}

export async function more(): Promise<void> {
  if (next.value === null || loading.value) return;
  const mine = request;
  loading.value = true;
  const page = await attempt(() => api.pictures(filter(), next.value));
  loading.value = false;
  if (!page || mine !== request) return;
  const known = new Set(pictures.value.map((one) => one.id));
  pictures.value = [...pictures.value, ...page.data.filter((one) => !known.has(one.id))];
  next.value = page.next;
}

async function change(id: string, changes: api.Change): Promise<api.Picture | undefined> {
  const found = await attempt(() => api.change(id, changes));
  if (!found) return undefined;
  const belongs = shelf.value === "bin" ? found.deleted : !found.deleted;
  pictures.value = belongs
    ? pictures.value.map((one) => (one.id === id ? found : one))
    : pictures.value.filter((one) => one.id !== id);
  if (open.value?.id === id) open.value = found;
  return found;
}

export const star = (picture: api.Picture): Promise<unknown> => change(picture.id, { starred: !picture.starred });
export const restore = (picture: api.Picture): Promise<unknown> => change(picture.id, { deleted: false });

/** Into the bin, with an undo. */
export async function remove(picture: api.Picture): Promise<void> {
  const found = await change(picture.id, { deleted: true });
  if (!found) return;
  open.value = null;
  notice.value = {
    text: t("picture.deleted"),
    undo: () => {
      void restore(picture).then(reload);
    },
  };
}
