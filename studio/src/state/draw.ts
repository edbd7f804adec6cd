/** The form of the view Draw. */

import { computed, signal } from "@preact/signals";
import type { Job, Model, Option, Origin, Picture, Value } from "../api/client";
import { model } from "./app";
import { submit } from "./jobs";
import { kept } from "./kept";
import { reload } from "./library";
import { language } from "./words";

export const prompt = signal("");
export const count = kept("count", 4);
export const size = kept<string | null>("size", null);
export const style = signal("");
export const seed = signal("");
/** What is set of the options that the model has, as text; what is empty is left to the model. */
export const settings = signal<Readonly<Record<string, string>>>({});
export const init = signal<{ blob: Blob; name: string } | null>(null);
export const strength = signal(0.7);
export const MOST = 10;
const PROMPTS = 6;
/** Options with a place of their own on the page, or none: they are of other verbs. */
const ELSEWHERE = ["strength", "fit", "keep_rows"];

export const sizes = computed(() => model.value?.sizes ?? []);
export const styles = computed(() => model.value?.styles ?? []);
export const chosenSize = computed(() => {
  const wanted = size.value;
  return wanted && sizes.value.includes(wanted) ? wanted : (model.value?.default_size ?? "");
});
export const options = computed(() => (model.value?.options ?? []).filter((one) => !ELSEWHERE.includes(one.name)));
export const knows = (setting: string): boolean => model.value?.settings.includes(setting) ?? false;
export const ready = computed(() => prompt.value.trim() !== "" && model.value !== undefined);
export const changed = computed(
  () => Object.values(settings.value).filter((text) => text !== "").length + (seed.value ? 1 : 0) + (init.value ? 1 : 0),
);
/** Prompts that the model draws well, in the page's language where its bundle has them. */
export const tried = computed(() => promptsOf(model.value, language.value));

export function promptsOf(one: Model | undefined, wanted: string): readonly string[] {
  const prompts = one?.prompts ?? {};
  return (prompts[wanted] ?? prompts["en"] ?? Object.values(prompts)[0] ?? []).slice(0, PROMPTS);
}

export function set(name: string, text: string): void {
  settings.value = { ...settings.value, [name]: text };
}

/** Can an option be this? Empty is: then the model chooses. */
export function fits(option: Option, text: string): boolean {
  if (text === "") return true;
  if (option.choices.length > 0) return option.choices.includes(text);
  if (option.name === "steps" && !/^[0-9.]+$/.test(text)) return true; // a spacing, such as fast27
  const number = Number(text);
  if (!Number.isFinite(number) || (option.whole && !Number.isInteger(number))) return false;
  return number >= (option.minimum ?? -Infinity) && number <= (option.maximum ?? Infinity);
}

/** What is sent, without what is empty or means nothing to the model. */
export function values(): Record<string, Value> {
  const given = init.value;
  const chosen = options.value.map((one) => [one.name, settings.value[one.name] ?? ""] as const);
  const { rerank, ...rest } = Object.fromEntries(chosen);
  return {
    ...rest,
    model: model.value?.id,
    prompt: prompt.value.trim(),
    n: count.value,
    size: chosenSize.value,
    seed: seed.value.trim(),
    style: styles.value.includes(style.value) ? style.value : "",
    rerank: Number(rerank) > count.value ? rerank : "",
    ...(given && knows("init") ? { init: given.blob, strength: strength.value } : {}),
  };
}

export async function draw(): Promise<Job | undefined> {
  if (!ready.value) return undefined;
  return submit("generate", values(), () => void reload());
}

type Recipe = Pick<Picture, "prompt" | "index" | "width" | "settings"> & { seed: number | string };

/** Fill the form with a picture's recipe. */
export function recall(recipe: Recipe, sameSeed: boolean): void {
  const found = recipe.settings;
  const side = found["size"] ?? String(recipe.width);
  prompt.value = recipe.prompt;
  seed.value = sameSeed ? String(recipe.seed) : "";
  count.value = sameSeed ? Math.min(MOST, recipe.index + 1) : count.value;
  size.value = `${side}x${side}`;
  style.value = found["style"] ?? "";
  settings.value = Object.fromEntries(
    options.value.flatMap((one) => {
      const text = found[one.name];
      return text !== undefined && fits(one, text) ? [[one.name, text]] : [];
    }),
  );
}

/** The recipe that stands in a picture's file, where it is one of this program's. */
export function recipeOf(origin: Origin, width: number): Recipe | null {
  const { prompt: text, seed: number, index, ...rest } = origin.settings;
  if (text === undefined || !/^\d+$/.test(number ?? "")) return null;
  return { prompt: text, seed: number ?? "", index: Number(index ?? 0), width, settings: rest };
}
