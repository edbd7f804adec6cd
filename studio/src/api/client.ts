/** Requests to the server's API. The types are generated from its OpenAPI document by `npm run types`. */

import type { components } from "./schema";

export type Model = components["schemas"]["Model"];
export type Picture = components["schemas"]["Picture"];
export type Job = components["schemas"]["Job"];
export type Change = components["schemas"]["Change"];
export type Option = components["schemas"]["Option"];
export type Origin = components["schemas"]["Origin"];
export type Tiles = components["schemas"]["Tiles"];
export type Extension = components["schemas"]["Extension"];
export type Hit = components["schemas"]["Hit"];
export type SavedEntry = components["schemas"]["CanvasEntry"];
export type Saved = components["schemas"]["Canvas"];
export type Value = string | number | boolean | Blob | readonly Blob[] | readonly (number | string | readonly number[])[] | null | undefined;

/** An answer that is an error, with the server's own words. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly param: string | null,
    readonly code: string | null,
  ) {
    super(message);
  }
}

/** The server does not answer at all. */
export class Unreachable extends Error {}

async function answer<Found>(path: string, options: RequestInit = {}): Promise<Found> {
  let response: Response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Unreachable("the server does not answer");
  }
  if (response.status === 204) return undefined as Found;
  if (response.ok) return (await response.json()) as Found;
  const found: unknown = await response.json().catch(() => null);
  const cause = (found as { error?: components["schemas"]["Cause"] } | null)?.error;
  throw new Refused(
    cause?.message ?? `the server answers ${response.status}`,
    response.status,
    cause?.param ?? null,
    cause?.code ?? null,
  );
}

function json(body: unknown, method = "POST"): RequestInit {
  return { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
}

/** Does the server answer? */
export function isAlive(): Promise<boolean> {
  return fetch("/health/live").then(
    (response) => response.ok,
    () => false,
  );
}

export async function models(): Promise<Model[]> {
  return (await answer<{ data: Model[] }>("/v1/models")).data;
}

function addTo(form: FormData, name: string, one: Blob | number): void {
  if (one instanceof Blob) form.append(name, one, "picture.png");
  else form.append(name, String(one));
}

const isNested = (value: unknown): boolean => Array.isArray(value) && Array.isArray(value[0]);

/** Have something drawn. Files go as parts of a form, all else as its fields; lists of lists want JSON. */
export function submit(verb: string, values: Record<string, Value>): Promise<Job> {
  if (Object.values(values).some(isNested)) return answer<Job>("/v1/unclip/jobs", json({ verb, ...values }));
  const form = new FormData();
  form.append("verb", verb);
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined) continue;
    if (value === "" && name !== "prompt") continue; // an edit without words removes what is masked
    if (value instanceof Blob) form.append(name, value, `${name}.png`);
    else if (Array.isArray(value)) for (const one of value) addTo(form, `${name}[]`, one as Blob | number);
    else form.append(name, String(value));
  }
  return answer<Job>("/v1/unclip/jobs", { method: "POST", body: form });
}

export async function jobs(limit = 20): Promise<Job[]> {
  return (await answer<{ data: Job[] }>(`/v1/unclip/jobs?limit=${limit}`)).data;
}

export function job(id: string): Promise<Job> {
  return answer<Job>(`/v1/unclip/jobs/${id}`);
}

export function cancel(id: string): Promise<Job> {
  return answer<Job>(`/v1/unclip/jobs/${id}/cancel`, { method: "POST" });
}

export interface Filter {
  text?: string;
  starred?: boolean;
  board?: string;
  model?: string;
  since?: number;
  until?: number;
  deleted?: boolean;
}

export interface Page {
  data: Picture[];
  next: number | null;
}

export function pictures(filter: Filter, before: number | null, limit = 60): Promise<Page> {
  const query = new URLSearchParams({ limit: String(limit) });
  if (before !== null) query.set("before", String(before));
  for (const [name, value] of Object.entries(filter)) if (value) query.set(name, String(value));
  return answer<Page>(`/v1/unclip/pictures?${query}`);
}

export interface Board {
  name: string;
  count: number;
  cover: string | null;
}

export async function boards(): Promise<Board[]> {
  return (await answer<{ data: Board[] }>("/v1/unclip/boards")).data;
}

export function makeBoard(name: string): Promise<unknown> {
  return answer("/v1/unclip/boards", json({ name }));
}

export function renameBoard(name: string, to: string): Promise<unknown> {
  return answer(`/v1/unclip/boards/${encodeURIComponent(name)}`, json({ name: to }, "PATCH"));
}

export function deleteBoard(name: string): Promise<void> {
  return answer<void>(`/v1/unclip/boards/${encodeURIComponent(name)}`, { method: "DELETE" });
}

/** The same changes of several pictures. Returns the ids of those that were there. */
export async function changeAll(ids: readonly string[], changes: Change): Promise<string[]> {
  return (await answer<{ changed: string[] }>("/v1/unclip/pictures", json({ ids, ...changes }, "PATCH"))).changed;
}

export function change(id: string, changes: Change): Promise<Picture> {
  return answer<Picture>(`/v1/unclip/pictures/${id}`, json(changes, "PATCH"));
}

export function picture(id: string): Promise<Picture> {
  return answer<Picture>(`/v1/unclip/pictures/${id}`);
}

/** The kept pictures that are nearest to a text or a picture, the nearest first. */
export async function search(query: { text: string } | { image: Blob }, model: string | undefined): Promise<Hit[]> {
  const asked = "text" in query ? { text: query.text } : { image: await dataOf(query.image) };
  return (await answer<{ data: Hit[] }>("/v1/unclip/search", json({ ...asked, model: model ?? null, limit: 100 }))).data;
}

/** A file as a data URI. */
export function dataOf(blob: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error ?? new Error("the file cannot be read"));
    reader.readAsDataURL(blob);
  });
}

export function verify(blob: Blob): Promise<Origin> {
  const form = new FormData();
  form.append("image", blob, "picture");
  return answer<Origin>("/v1/unclip/verify", { method: "POST", body: form });
}

export function tiles(extension: Extension): Promise<Tiles> {
  return answer<Tiles>("/v1/unclip/tiles", json(extension));
}

export async function canvases(): Promise<SavedEntry[]> {
  return (await answer<{ data: SavedEntry[] }>("/v1/unclip/canvases")).data;
}

export function canvas(id: string): Promise<Saved> {
  return answer<Saved>(`/v1/unclip/canvases/${id}`);
}

export function saveCanvas(id: string, name: string, document: string): Promise<Saved> {
  return answer<Saved>(`/v1/unclip/canvases/${id}`, json({ name, document }, "PUT"));
}

export function deleteCanvas(id: string): Promise<void> {
  return answer<void>(`/v1/unclip/canvases/${id}`, { method: "DELETE" });
}

export function setLoaded(model: string, load: boolean): Promise<unknown> {
  return answer(`/v1/unclip/models/${encodeURIComponent(model)}/${load ? "load" : "unload"}`, { method: "POST" });
}

/** A bundle's card, as Markdown. */
export async function card(model: string): Promise<string> {
  const response = await fetch(`/v1/unclip/models/${encodeURIComponent(model)}/card`, { credentials: "same-origin" });
  if (!response.ok) throw new Refused("this model has no card", response.status, null, null);
  return response.text();
}

export function login(key: string): Promise<unknown> {
  return answer("/v1/unclip/login", json({ key }));
}

export const fileOf = (id: string): string => `/v1/unclip/pictures/${id}/file`;
export const thumbnailOf = (id: string, side = 256): string => `/v1/unclip/pictures/${id}/thumbnail?side=${side}`;
export const zipOf = (ids: readonly string[]): string => `/v1/unclip/zip?ids=${ids.join(",")}`;
export const filmOf = (ids: readonly string[], format: "gif" | "webp"): string =>
  `/v1/unclip/animation?ids=${ids.join(",")}&format=${format}&back=true`;
export const previewOf = (id: string, step: number): string => `/v1/unclip/jobs/${id}/preview?step=${step}`;

/** The bytes of a kept picture. */
export async function blobOf(id: string): Promise<Blob> {
  const response = await fetch(fileOf(id), { credentials: "same-origin" });
  if (!response.ok) throw new Refused("the picture is not there any more", response.status, null, null);
  return response.blob();
}

/** Be told of a job until it is over, again after a break of the connection. Returns what stops it. */
export function follow(id: string, told: (job: Job) => void, lost: () => void): () => void {
  const source = new EventSource(`/v1/unclip/jobs/${id}/events`);
  source.addEventListener("job", (event) => {
    const found = JSON.parse((event as MessageEvent<string>).data) as Job;
    if (isOver(found)) source.close();
    told(found);
  });
  source.onerror = () => lost(); // the browser asks again by itself
  return () => source.close();
}

export const isOver = (job: Job): boolean => ["done", "failed", "cancelled"].includes(job.state);

// --- folders of the owner's, and models that can be fetched ---

export type Folder = components["schemas"]["Folder"];
export type FolderHit = components["schemas"]["FolderHit"];
export type FolderSearch = components["schemas"]["FolderSearch"];
export type Known = components["schemas"]["Known"];

export async function folders(): Promise<Folder[]> {
  return (await answer<{ data: Folder[] }>("/v1/unclip/folders")).data;
}

export function indexFolder(id: string, model: string | null): Promise<Folder> {
  return answer<Folder>(`/v1/unclip/folders/${id}/index`, json({ model }));
}

export function stopIndexing(id: string): Promise<Folder> {
  return answer<Folder>(`/v1/unclip/folders/${id}/cancel`, { method: "POST" });
}

export async function searchFolder(id: string, search: FolderSearch): Promise<FolderHit[]> {
  return (await answer<{ data: FolderHit[] }>(`/v1/unclip/folders/${id}/search`, json(search))).data;
}

export const folderPicture = (id: string, number: number, what: "thumbnail" | "file"): string =>
  `/v1/unclip/folders/${id}/pictures/${number}/${what}`;

export async function folderBlob(id: string, number: number): Promise<Blob> {
  const response = await fetch(folderPicture(id, number, "file"), { credentials: "same-origin" });
  if (!response.ok) throw new Refused("the picture is not there any more", response.status, null, null);
  return response.blob();
}

export async function known(): Promise<Known[]> {
  return (await answer<{ data: Known[] }>("/v1/unclip/models")).data;
}

export function pull(model: string, stop: boolean): Promise<unknown> {
  const path = `/v1/unclip/models/${encodeURIComponent(model)}/pull${stop ? "/cancel" : ""}`;
  return answer(path, { method: "POST" });
}
