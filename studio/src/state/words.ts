/** The page's language: chosen, else the browser's, else English. */

import { computed, signal } from "@preact/signals";
import { de } from "../languages/de";
import { en, type Key } from "../languages/en";
import { ko } from "../languages/ko";
import { kept } from "./kept";

export const LANGUAGES = { en: "English", ko: "한국어", de: "Deutsch" } as const;
export type Language = keyof typeof LANGUAGES;
const WORDS: Record<Language, Record<Key, string>> = { en, ko, de };

export function fitting(wished: readonly string[]): Language {
  for (const tag of wished) {
    const name = tag.slice(0, 2).toLowerCase();
    if (name in LANGUAGES) return name as Language;
  }
  return "en";
}

const chosen = kept<Language | null>("language", null);
const browsers = signal<readonly string[]>(globalThis.navigator?.languages ?? []);
export const language = computed<Language>(() => chosen.value ?? fitting(browsers.value));

export function choose(name: Language): void {
  chosen.value = name;
}

/** The words for a key, with `{name}` filled in. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  const text = WORDS[language.value][key];
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** Settings whose words stand on the page elsewhere too. */
const SHARED: Readonly<Record<string, Key>> = {
  model: "draw.model",
  seed: "draw.seed",
  size: "draw.size",
  style: "draw.style",
  strength: "make.strength",
};

/** The page's words for a setting of a model, where it has them; the setting's own name where it is new. */
export function settingOf(name: string): string {
  const key = SHARED[name] ?? `setting.${name}`;
  return key in en ? t(key as Key) : name;
}

/** A number as the page's language writes it, with so many decimals at most. */
export function numberOf(value: number, decimals = 0): string {
  return value.toLocaleString(language.value, { maximumFractionDigits: decimals });
}

/** A moment, of seconds since 1970, as the page's language writes it. */
export function momentOf(seconds: number): string {
  return new Date(seconds * 1000).toLocaleString(language.value, { dateStyle: "medium", timeStyle: "short" });
}
