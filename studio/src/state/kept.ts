/** A signal whose value outlives the page, in the browser's own store. */

import { effect, signal, type Signal } from "@preact/signals";

export function kept<Value>(name: string, initial: Value): Signal<Value> {
  const place = `unclip.${name}`;
  let value = initial;
  try {
    const found = globalThis.localStorage?.getItem(place);
    if (found) value = JSON.parse(found) as Value;
  } catch {
    // no store, or another version's value: begin anew
  }
  const made = signal(value);
  effect(() => {
    const text = JSON.stringify(made.value);
    try {
      globalThis.localStorage?.setItem(place, text);
    } catch {
      // a full or forbidden store: the page works without
    }
  });
  return made;
}
