import { effect } from "@preact/signals";
import { render } from "preact";
import { helpOpen, loadModels, VIEWS, view, viewOf } from "./state/app";
import * as canvas from "./state/canvas";
import { recall } from "./state/jobs";
import { NARROWEST, WIDEST } from "./state/mask";
import "./style.css";
import { App } from "./views/App";

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
}

function onKey(event: KeyboardEvent): void {
  if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
  const control = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  if (control && view.value === "canvas" && (key === "z" || key === "y")) {
    if (key === "y" || event.shiftKey) canvas.marks.redo();
    else canvas.marks.undo();
    event.preventDefault();
  } else if (control || event.altKey) return;
  else if (key === "?") helpOpen.value = true;
  else if (key === "[") canvas.width.value = Math.max(NARROWEST, Math.round(canvas.width.value * 0.8));
  else if (key === "]") canvas.width.value = Math.min(WIDEST, Math.round(canvas.width.value * 1.25));
  else {
    const chosen = VIEWS[Number(key) - 1];
    if (chosen) view.value = chosen;
  }
}

/** A picture that is dropped or pasted anywhere is opened to be edited. */
function onFile(file: File | undefined): void {
  if (!file?.type.startsWith("image/")) return;
  view.value = "canvas";
  void canvas.openBlob(file, file.name);
}

view.value = viewOf(location.hash);
effect(() => {
  const address = `#/${view.value}`;
  if (location.hash !== address) history.pushState(null, "", address);
});
addEventListener("hashchange", () => (view.value = viewOf(location.hash)));
addEventListener("popstate", () => (view.value = viewOf(location.hash)));
addEventListener("keydown", onKey);
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  onFile(event.dataTransfer?.files[0]);
});
addEventListener("paste", (event) => onFile(event.clipboardData?.files[0]));
render(<App />, document.getElementById("app") as HTMLElement);
void loadModels();
void recall();
