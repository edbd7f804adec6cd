/** The shortcuts. In a field a key is a letter; beside an open dialog it does nothing. */

import { helpOpen, VIEWS, view } from "../state/app";
import * as canvas from "../state/canvas";
import { NARROWEST, type Tool, WIDEST } from "../state/mask";
import * as selection from "../state/selection";
import { FIT } from "../state/viewport";
import { zoom } from "./Canvas";

const CHOSEN: Readonly<Record<string, Tool>> = { b: "brush", e: "eraser", r: "rectangle", l: "lasso" };
const STEP = 1.25;

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
}

function onCanvas(key: string): boolean {
  const tool = CHOSEN[key];
  if (tool) canvas.tool.value = tool;
  else if (key === "i") canvas.marks.add({ kind: "invert" });
  else if (key === "[") canvas.width.value = Math.max(NARROWEST, Math.round(canvas.width.value / STEP));
  else if (key === "]") canvas.width.value = Math.min(WIDEST, Math.round(canvas.width.value * STEP));
  else if (key === "+" || key === "=") zoom(STEP);
  else if (key === "-") zoom(1 / STEP);
  else if (key === "0") canvas.shot.value = FIT;
  else return false;
  return true;
}

function inLibrary(key: string, event: KeyboardEvent): boolean {
  if (key === "/") {
    document.querySelector<HTMLElement>("input[type=search]")?.focus();
    event.preventDefault();
  } else if (key === "x") {
    if (selection.choosing.value) selection.stop();
    else selection.choosing.value = true;
  } else return false;
  return true;
}

export function onKey(event: KeyboardEvent): void {
  if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
  const control = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  const editing = view.value === "canvas" && canvas.source.value !== null;
  if (control && editing && (key === "z" || key === "y")) {
    if (key === "y" || event.shiftKey) canvas.marks.redo();
    else canvas.marks.undo();
    event.preventDefault();
  } else if (control || event.altKey) return;
  else if (key === "?") helpOpen.value = true;
  else if (editing && onCanvas(key)) return;
  else if (view.value === "library" && inLibrary(key, event)) return;
  else {
    const chosen = VIEWS[Number(key) - 1];
    if (chosen) view.value = chosen;
  }
}
