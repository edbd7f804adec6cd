/** What is on the view Edit is kept on the server: a reload, or another machine, goes on with it. */

import { effect, signal } from "@preact/signals";
import * as api from "../api/client";
import { attempt, offline } from "./app";
import * as canvas from "./canvas";
import type { Mark, Point } from "./mask";

const PLACE = "unclip.canvas"; // of this tab, so that two tabs have two canvases
const LONGEST = 4 * 2 ** 20; // characters, as the server has it
const REST = 800; // milliseconds without a change before it is saved

interface Kept {
  version: 1;
  name: string;
  picture: string | null;
  data: string | null; // a file that is in no library
  marks: readonly Mark[];
  margins: canvas.Margins;
  mode: canvas.Mode;
  prompt: string;
  results: readonly string[];
  shown: string | null;
  job: string | null;
}

export const saved = signal<readonly api.SavedEntry[]>([]);
/** Of what is on the page: kept, not yet, or too large to be. */
export const state = signal<"saved" | "saving" | "large">("saved");
let id = stored();
let restoring = false;
let opened = 0;
let timer: ReturnType<typeof setTimeout> | undefined;

function stored(): string | null {
  try {
    return globalThis.sessionStorage?.getItem(PLACE) ?? null;
  } catch {
    return null;
  }
}

function take(name: string): string {
  id = name;
  try {
    globalThis.sessionStorage?.setItem(PLACE, name);
  } catch {
    // no store: a reload begins with the list
  }
  return name;
}

const rounded = ({ x, y }: Point): Point => ({ x: Math.round(x * 10) / 10, y: Math.round(y * 10) / 10 });

/** Marks with no more digits than can be seen. */
export function short(marks: readonly Mark[]): Mark[] {
  return marks.map((mark) => {
    if (mark.kind === "stroke" || mark.kind === "lasso") return { ...mark, points: mark.points.map(rounded) };
    return mark.kind === "rectangle" ? { ...mark, from: rounded(mark.from), to: rounded(mark.to) } : mark;
  });
}

async function save(): Promise<void> {
  const given = canvas.source.value;
  if (!given) return;
  const document: Kept = {
    version: 1,
    name: given.name,
    picture: given.picture,
    data: given.picture === null ? await api.dataOf(given.blob) : null,
    marks: short(canvas.marks.done.value),
    margins: canvas.margins.value,
    mode: canvas.mode.value,
    prompt: canvas.prompt.value,
    results: canvas.results.value.map((one) => one.id),
    shown: canvas.shown.value,
    job: canvas.busy.value || (canvas.job.value?.withheld.length ?? 0) > 0 ? canvas.drawing.value : null,
  };
  const text = JSON.stringify(document);
  if (text.length > LONGEST) {
    state.value = "large";
    return;
  }
  const name = id || take(`canvas_${crypto.getRandomValues(new Uint32Array(3)).join("_")}`);
  const found = await attempt(() => api.saveCanvas(name, given.name.slice(0, 200), text));
  if (found) state.value = "saved";
}

effect(() => {
  const parts = [canvas.source, canvas.marks.done, canvas.margins, canvas.mode, canvas.prompt, canvas.results];
  for (const part of [...parts, canvas.shown, canvas.drawing]) part.value;
  if (canvas.opened.value !== opened) id = null; // another picture gets a canvas of its own
  opened = canvas.opened.value;
  if (canvas.source.value === null || restoring || offline.value) return;
  state.value = "saving";
  clearTimeout(timer);
  timer = setTimeout(() => void save(), REST);
});

/** Go on with a saved canvas. */
export async function open(name: string): Promise<void> {
  const found = await attempt(
    () => api.canvas(name),
    () => take(""), // deleted elsewhere
  );
  if (!found) return;
  const kept = parsed(found.document);
  if (!kept) return;
  restoring = true;
  try {
    const { picture, data } = kept;
    const blob = await attempt(() => (picture !== null ? api.blobOf(picture) : blobOf(data ?? "")));
    if (!blob || !(await canvas.openBlob(blob, kept.name, picture))) return;
    take(name);
    canvas.marks.reset(kept.marks);
    canvas.margins.value = kept.margins;
    canvas.mode.value = kept.mode;
    canvas.prompt.value = kept.prompt;
    const results = await Promise.all(kept.results.map((one) => api.picture(one).catch(() => null)));
    canvas.results.value = results.filter((one) => one !== null);
    canvas.shown.value = canvas.results.value.some((one) => one.id === kept.shown) ? kept.shown : null;
    if (kept.job !== null) canvas.takeUp(kept.job);
  } finally {
    restoring = false;
  }
}

/** A document of this version; null for any other. */
export function parsed(text: string): Kept | null {
  try {
    const found = JSON.parse(text) as Partial<Kept>;
    return found.version === 1 && Array.isArray(found.marks) ? (found as Kept) : null;
  } catch {
    return null;
  }
}

async function blobOf(data: string): Promise<Blob> {
  const [head = "", body = ""] = data.split(",", 2);
  const bytes = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: /^data:([^;]+)/.exec(head)?.[1] ?? "image/png" });
}

/** What this tab had open before it was loaded again, and the list of what there is. */
export async function recall(): Promise<void> {
  if (id) await open(id);
  await list();
}

export async function list(): Promise<void> {
  const found = await attempt(api.canvases);
  if (found) saved.value = found;
}

export async function forget(name: string): Promise<void> {
  await attempt(() => api.deleteCanvas(name));
  await list();
}

/** Put the picture away; it stays in the list. */
export function close(): void {
  clearTimeout(timer);
  const given = canvas.source.value;
  void (given ? save() : Promise.resolve()).then(() => {
    canvas.source.value = null;
    id = null;
    try {
      globalThis.sessionStorage?.removeItem(PLACE);
    } catch {
      // nothing was stored
    }
    return list();
  });
}
