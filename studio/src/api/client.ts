/** Requests to the server's API. The types are generated from its OpenAPI document by `npm run types`. */

import type { components } from "./schema";

export type Model = components["schemas"]["Model"];
export type Picture = components["schemas"]["Picture"];
export type Job = components["schemas"]["Job"];
export type Change = components["schemas"]["Change"];
export type Value = string | number | boolean | Blob | readonly Blob[] | null | undefined;

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

export async function models(): Promise<Model[]> {
  return (await answer<{ data: Model[] }>("/v1/models")).data;
}

/** Have something drawn. Files go as parts of a form, all else as its fields. */
export function submit(verb: string, values: Record<string, Value>): Promise<Job> {
  const form = new FormData();
  form.append("verb", verb);
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined || value === "") continue;
    if (value instanceof Blob) form.append(name, value, `${name}.png`);
    else if (Array.isArray(value)) for (const one of value as readonly Blob[]) form.append(`${name}[]`, one, "picture.png");
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
  deleted?: boolean;
}

export interface Page {
  data: Picture[];
  next: number | null;
}

export function pictures(filter: Filter, before: number | null, limit = 60): Promise<Page> {
  const query = new URLSearchParams({ limit: String(limit) });
  if (before !== null) query.set("before", String(before));
  if (filter.text) query.set("text", filter.text);
  if (filter.starred) query.set("starred", "true");
  if (filter.board) query.set("board", filter.board);
  if (filter.deleted) query.set("deleted", "true");
  return answer<Page>(`/v1/unclip/pictures?${query}`);
}

export function change(id: string, changes: Change): Promise<Picture> {
  return answer<Picture>(`/v1/unclip/pictures/${id}`, json(changes, "PATCH"));
}

export function login(key: string): Promise<unknown> {
  return answer("/v1/unclip/login", json({ key }));
}

export const fileOf = (id: string): string => `/v1/unclip/pictures/${id}/file`;
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
