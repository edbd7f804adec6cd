import { effect } from "@preact/signals";
import { render } from "preact";
import { loadModels, view, viewOf } from "./state/app";
import * as drop from "./state/drop";
import { recall } from "./state/jobs";
import * as saved from "./state/saved";
import "./style/base.css";
import "./style/parts.css";
import "./style/views.css";
import "./style/canvas.css";
import { App } from "./views/App";
import { onKey } from "./views/keys";

view.value = viewOf(location.hash);
effect(() => {
  const address = `#/${view.value}`;
  if (location.hash !== address) history.pushState(null, "", address);
});
addEventListener("hashchange", () => (view.value = viewOf(location.hash)));
addEventListener("popstate", () => (view.value = viewOf(location.hash)));
addEventListener("keydown", onKey);
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.documentElement.classList.add("dragging");
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.documentElement.classList.remove("dragging");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.documentElement.classList.remove("dragging");
  drop.take(event.dataTransfer?.files[0]);
});
addEventListener("paste", (event) => drop.take(event.clipboardData?.files[0]));
render(<App />, document.getElementById("app") as HTMLElement);
void loadModels();
void recall();
void saved.recall();
