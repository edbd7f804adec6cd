/** Blends of three and four pictures: a plane of mixtures, drawn ahead, those nearest to the hand first. */

import { computed, effect, signal } from "@preact/signals";
import * as api from "../api/client";
import { model } from "./app";
import { cancel, submit } from "./jobs";
import * as make from "./make";

export const SIDE = 5; // mixtures along an edge
const AT_ONCE = 4; // mixtures of one job: the next job is chosen by where the hand is then
export interface Place {
  x: number; // 0 to 1, from the left
  y: number; // 0 to 1, from the top
}

export const hand = signal<Place>({ x: 0.5, y: 0.5 });
const drawn = signal<ReadonlyMap<string, api.Picture>>(new Map());
/** Mixtures that the server's policy does not let out: they are not asked for again. */
const withheld = new Set<string>();
/** A job of this plane that failed, or of which something was withheld. */
export const troubled = signal<api.Job | undefined>(undefined);
export const running = signal(false);
let round = 0;
let current: string | null = null;

/**
 * Shares of the pictures at a place. Four lie in the corners: left upper, right upper, left lower, right lower. Three
 * have the third in the middle of the lower edge.
 */
export function sharesAt({ x, y }: Place, count: number): number[] {
  if (count >= 4) return [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y];
  const along = Math.max(0, Math.min(1, (x - y / 2) / Math.max(1e-9, 1 - y)));
  return y >= 1 ? [0, 0, 1] : [(1 - along) * (1 - y), along * (1 - y), y];
}

/** The places that are drawn; of three pictures those of a triangle. */
export function placesOf(count: number): Place[] {
  const steps = Array.from({ length: SIDE }, (_, index) => index / (SIDE - 1));
  if (count >= 4) return steps.flatMap((y) => steps.map((x) => ({ x, y })));
  return steps.flatMap((y, row) =>
    Array.from({ length: SIDE - row }, (_, column) => ({ x: y / 2 + column / (SIDE - 1), y })),
  );
}

export const keyOf = ({ x, y }: Place): string => `${x.toFixed(3)} ${y.toFixed(3)}`;
const distance = (one: Place, other: Place): number => (one.x - other.x) ** 2 + (one.y - other.y) ** 2;

/** Places by how near they are, the nearest first. */
export function nearest(places: readonly Place[], to: Place): Place[] {
  return [...places].sort((one, other) => distance(one, to) - distance(other, to));
}

export const places = computed(() => (make.onPlane.value ? placesOf(make.used.value.length) : []));
export const picture = (place: Place): api.Picture | undefined => drawn.value.get(keyOf(place));
/** The drawn mixture that is nearest to the hand. */
export const shown = computed(() => {
  const there = places.value.filter((place) => drawn.value.has(keyOf(place)));
  const [best] = nearest(there, hand.value);
  return best && { place: best, picture: picture(best) as api.Picture };
});
export const done = computed(() => drawn.value.size);

/** A place of the keyboard's: to the next one that there is in a direction. */
export function step(x: number, y: number): void {
  const from = nearest(places.value, hand.value)[0];
  if (!from) return;
  const ahead = places.value.filter((place) => (place.x - from.x) * x > 1e-6 || (place.y - from.y) * y > 1e-6);
  const [to] = nearest(ahead, from);
  if (to) hand.value = to;
}

/** Other pictures have other mixtures. */
effect(() => {
  make.used.value;
  make.way.value;
  stop();
  drawn.value = new Map();
  withheld.clear();
  troubled.value = undefined;
});

export function stop(): void {
  round += 1;
  running.value = false;
  if (current !== null) void cancel(current);
  current = null;
}

/** Draw the plane, a few mixtures at a time. */
export async function draw(): Promise<void> {
  const mine = ++round;
  const images = await Promise.all(make.used.value.map((one) => api.dataOf(one.blob)));
  const count = images.length;
  const seed = Math.floor(Math.random() * 2 ** 32);
  troubled.value = undefined;
  running.value = true;
  while (mine === round) {
    const missing = places.value.filter((place) => !drawn.value.has(keyOf(place)) && !withheld.has(keyOf(place)));
    const some = nearest(missing, hand.value).slice(0, AT_ONCE);
    if (some.length === 0) break;
    const weights = some.map((place) => sharesAt(place, count));
    const told = await drawOnce({ image: images, weights, seed });
    current = null;
    if (!told || mine !== round) break; // refused, which is said; or stopped
    if (told.state !== "done" || told.withheld.length > 0) troubled.value = told;
    if (told.state !== "done") break;
    for (const { index } of told.withheld) withheld.add(keyOf(some[index] as Place));
    const found = told.pictures.map((one) => [keyOf(some[one.index] as Place), one] as const);
    drawn.value = new Map([...drawn.value, ...found]);
  }
  if (mine === round) running.value = false;
}

/** A job that is over; undefined where the server refused it. */
function drawOnce(asked: Record<string, api.Value>): Promise<api.Job | undefined> {
  return new Promise((resolve) => {
    void submit("blend", { model: model.value?.id, ...asked }, resolve).then((started) => {
      current = started?.id ?? null;
      if (!started) resolve(undefined);
    });
  });
}
