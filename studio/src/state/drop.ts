/** A picture that was dropped or pasted on the page, until the person has said what to do with it. */

import { signal } from "@preact/signals";
import { notice } from "./app";
import { t } from "./words";

export const dropped = signal<File | null>(null);

export function take(file: File | undefined): void {
  if (!file) return;
  if (file.type.startsWith("image/")) dropped.value = file;
  else notice.value = { text: t("drop.none", { name: file.name }) };
}
