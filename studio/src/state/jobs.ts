/** Jobs of this person: submitted, watched until they are over, found again after a reload. */

import { signal } from "@preact/signals";
import * as api from "../api/client";
import { attempt, offline } from "./app";

export const jobs = signal<readonly api.Job[]>([]);
const MOST = 30;
const watched = new Set<string>();
const waiting = new Map<string, (job: api.Job) => void>();

function put(job: api.Job): void {
  const others = jobs.value.filter((one) => one.id !== job.id);
  const at = jobs.value.findIndex((one) => one.id === job.id);
  jobs.value = at < 0 ? [job, ...others].slice(0, MOST) : [...others.slice(0, at), job, ...others.slice(at)];
  if (api.isOver(job)) {
    watched.delete(job.id);
    waiting.get(job.id)?.(job);
    waiting.delete(job.id);
  }
}

export function watch(job: api.Job): void {
  put(job);
  if (api.isOver(job) || watched.has(job.id)) return;
  watched.add(job.id);
  api.follow(
    job.id,
    (told) => {
      offline.value = false;
      put(told);
    },
    () => {
      offline.value = true;
    },
  );
}

/** Have something drawn. `over` is told when the job is, whether it went well or not. */
export async function submit(
  verb: string,
  values: Record<string, api.Value>,
  over?: (job: api.Job) => void,
): Promise<api.Job | undefined> {
  const job = await attempt(() => api.submit(verb, values));
  if (!job) return undefined;
  if (over) waiting.set(job.id, over);
  watch(job);
  return job;
}

export async function cancel(id: string): Promise<void> {
  const job = await attempt(() => api.cancel(id));
  if (job) put(job);
}

/** What was being drawn when the page was closed goes on being watched. */
export async function recall(): Promise<void> {
  const found = await attempt(() => api.jobs(MOST));
  if (found) for (const job of [...found].reverse()) watch(job);
}

export function dismiss(id: string): void {
  jobs.value = jobs.value.filter((one) => one.id !== id);
}
