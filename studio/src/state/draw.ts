/** The form of the view Draw. */

import { computed, signal } from "@preact/signals";
import type { Job, Picture, Value } from "../api/client";
import { model } from "./app";
import { submit } from "./jobs";
import { kept } from "./kept";
import { reload } from "./library";

export const prompt = signal("");
export const count = kept("count", 4);
export const size = kept<string | null>("size", null);
export const seed = signal("");
export const steps = signal("");
export const guidance = signal("");
export const rerank = signal("");
export const init = signal<{ blob: Blob; name: string } | null>(null);
export const strength = signal(0.7);
export const MOST = 10;

export const sizes = computed(() => model.value?.sizes ?? []);
export const chosenSize = computed(() => {
  const wanted = size.value;
  return wanted && sizes.value.includes(wanted) ? wanted : (model.value?.default_size ?? "");
});
export const knows = (setting: string): boolean => model.value?.settings.includes(setting) ?? false;
export const ready = computed(() => prompt.value.trim() !== "" && model.value !== undefined);

/** What is sent, without what is empty or means nothing to the model. */
export function values(): Record<string, Value> {
  const given = init.value;
  return {
    model: model.value?.id,
    prompt: prompt.value.trim(),
    n: count.value,
    size: chosenSize.value,
    seed: seed.value.trim(),
    steps: knows("steps") ? steps.value : "",
    guidance: knows("guidance") ? guidance.value : "",
    rerank: knows("rerank") && Number(rerank.value) > count.value ? rerank.value : "",
    ...(given && knows("init") ? { init: given.blob, strength: strength.value } : {}),
  };
}

export async function draw(): Promise<Job | undefined> {
  if (!ready.value) return undefined;
  return submit("generate", values(), () => void reload());
}

/** Fill the form with a picture's recipe. */
export function recall(picture: Picture, sameSeed: boolean): void {
  prompt.value = picture.prompt;
  seed.value = sameSeed ? String(picture.seed) : "";
  count.value = sameSeed ? Math.min(MOST, picture.index + 1) : count.value;
  size.value = `${picture.settings["size"] ?? picture.width}x${picture.settings["size"] ?? picture.height}`;
  steps.value = picture.settings["steps"] ?? "";
  guidance.value = picture.settings["guidance"] ?? "";
}
