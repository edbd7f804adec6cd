/** Jobs of this person: submitted, watched until they are over, found again after a reload. */

import { signal } from "@preact/signals";
import * as api from "../api/client";
import { attempt, offline, refusal } from "./app";

export const jobs = signal<readonly api.Job[]>([]);
const MOST = 30;
const watched = new Set<string>();
const waiting = new Map<string, (job: api.Job) => void>();

function put(job: api.Job): void {
  const at = jobs.value.findIndex((one) => one.id === job.id);
  const others = jobs.value.filter((one) => one.id !== job.id);
  jobs.value = at < 0 ? [job, ...others].slice(0, MOST) : [...others.slice(0, at), job, ...others.slice(at)];
  if (api.isOver(job)) {
    watched.delete(job.id);
    waiting.get(job.id)?.(job);
    waiting.delete(job.id);
  }
}

/** Follow a job until it is over; `over` is told then, whether it went well or not. */
export function watch(job: api.Job, over?: (job: api.Job) => void): void {
  if (over) waiting.set(job.id, over);
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

/** Have something drawn. What is refused is said where it was asked for. */
export async function submit(
  verb: string,
  values: Record<string, api.Value>,
  over?: (job: api.Job) => void,
): Promise<api.Job | undefined> {
  refusal.value = null;
  const job = await attempt(
    () => api.submit(verb, values),
    ({ message, param, code }) => (refusal.value = { message, param, code }),
  );
  if (job) watch(job, over);
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

/** Watch a job that was begun before the page was loaded again. */
export async function resume(id: string, over: (job: api.Job) => void): Promise<void> {
  const found = await attempt(() => api.job(id));
  if (found) watch(found, over);
}

export function dismiss(id: string): void {
  jobs.value = jobs.value.filter((one) => one.id !== id);
}
