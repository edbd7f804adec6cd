/** The view, the theme, the models, and what is said to the person. */

import { computed, effect, signal } from "@preact/signals";
import * as api from "../api/client";
import { kept } from "./kept";

export const VIEWS = ["draw", "canvas", "make", "library", "folder", "models"] as const;
export type View = (typeof VIEWS)[number];

const LOOK = 2000; // milliseconds between two looks for a server that is gone
export const view = signal<View>("draw");
export const theme = kept<"dark" | "light" | null>("theme", null);
export const models = signal<readonly api.Model[]>([]);
const wanted = kept<string | null>("model", null);
export const model = computed(() => models.value.find((one) => one.id === wanted.value) ?? models.value[0]);
export const offline = signal(false);
export const keyWanted = signal(false);
export const helpOpen = signal(false);
/** What the server refused to draw, in its words, until something else is asked for. */
export const refusal = signal<{ message: string; param: string | null; code: string | null } | null>(null);

export interface Notice {
  text: string;
  undo?: () => void;
}
export const notice = signal<Notice | null>(null);

export function chooseModel(id: string): void {
  wanted.value = id;
}

/** The view that an address names. */
export function viewOf(hash: string): View {
  const name = hash.replace(/^#\/?/, "");
  return (VIEWS as readonly string[]).includes(name) ? (name as View) : "draw";
}

export const can = (verb: string): boolean => model.value?.verbs.includes(verb) ?? false;

/** Do something with the server, and say what it refuses. Returns nothing where it did not work. */
export async function attempt<Found>(
  work: () => Promise<Found>,
  refused?: (error: api.Refused) => void,
): Promise<Found | undefined> {
  try {
    const found = await work();
    offline.value = false;
    return found;
  } catch (error) {
    if (error instanceof api.Unreachable) offline.value = true;
    else if (error instanceof api.Refused && error.status === 401) keyWanted.value = true;
    else if (error instanceof api.Refused && refused) refused(error);
    else notice.value = { text: error instanceof Error ? error.message : String(error) };
    return undefined;
  }
}

export async function loadModels(): Promise<void> {
  const found = await attempt(api.models);
  if (found) models.value = found;
}

/** What was refused in one view is of no concern in another. */
effect(() => {
  view.value;
  refusal.value = null;
});

/** While the server is gone, it is looked for; whatever waits for it goes on when it is back. */
effect(() => {
  if (!offline.value) return undefined;
  const timer = setInterval(() => {
    void api.isAlive().then((alive) => {
      if (!alive || !offline.value) return;
      offline.value = false;
      void loadModels();
    });
  }, LOOK);
  return () => clearInterval(timer);
});
