/** Jobs of this person: submitted, watched until they are over, found again after a reload. */

import { signal } from "@preact/signals";
import * as api from "../api/client";
import { attempt, offline, refusal } from "./app";
import { t } from "./words";

export const jobs = signal<readonly api.Job[]>([]);
const MOST = 30;
const STREAMS = 2;
const LOOK = 1500; // milliseconds between two looks at the jobs that wait
const watched = new Set<string>();
const streams = new Set<string>();
let look: ReturnType<typeof setTimeout> | undefined;
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

/** What the server's policy does not let out of a job. */
export function withheld(job: api.Job): string {
  const why = [...new Set(job.withheld.map((one) => one.category))].join(", ");
  return t("job.withheld", { count: job.withheld.length, total: job.n, why });
}

/** Follow a job until it is over; `over` is told then, whether it went well or not. */
export function watch(job: api.Job, over?: (job: api.Job) => void): void {
  if (over) waiting.set(job.id, over);
  if (!api.isOver(job)) watched.add(job.id);
  put(job);
  tend();
}

/**
 * Streams for the jobs that are drawn first, a look at the others now and then: a browser has six connections for a
 * server, and a stream keeps one.
 */
function tend(): void {
  const unfinished = jobs.value.filter((job) => watched.has(job.id)).reverse();
  for (const { id } of unfinished.slice(0, STREAMS)) {
    if (streams.has(id)) continue;
    streams.add(id);
    api.follow(
      id,
      (told) => {
        offline.value = false;
        put(told);
        if (!api.isOver(told)) return;
        streams.delete(id);
        tend();
      },
      () => {
        offline.value = true;
      },
    );
  }
  if (unfinished.length > STREAMS) look ??= setTimeout(() => void lookAtAll(), LOOK);
}

async function lookAtAll(): Promise<void> {
  const found = await attempt(() => api.jobs(MOST));
  look = undefined;
  for (const job of found ?? []) if (watched.has(job.id) && !streams.has(job.id)) put(job);
  tend();
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
