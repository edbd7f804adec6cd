import { useEffect } from "preact/hooks";
import { helpOpen, keyWanted, model, notice, offline, theme, VIEWS, view } from "../state/app";
import { choose, LANGUAGES, language, type Language, t } from "../state/words";
import { Canvas } from "./Canvas";
import { Draw } from "./Draw";
import { Help } from "./Help";
import { KeyForm } from "./KeyForm";
import { Library } from "./Library";
import { Make } from "./Make";
import { Models } from "./Models";
import { Viewer } from "./Viewer";

const SHOWN = { draw: Draw, canvas: Canvas, make: Make, library: Library, models: Models };

function Notices() {
  const said = notice.value;
  useEffect(() => {
    if (!said) return undefined;
    const timer = setTimeout(() => {
      if (notice.value === said) notice.value = null;
    }, 8000);
    return () => clearTimeout(timer);
  }, [said]);
  return (
    <div class="notices" role="status" aria-live="polite">
      {offline.value && <p class="notice warning">{t("app.offline")}</p>}
      {said && (
        <p class="notice">
          <span>{said.text}</span>
          {said.undo && (
            <button
              type="button"
              onClick={() => {
                said.undo?.();
                notice.value = null;
              }}
            >
              {t("picture.undo")}
            </button>
          )}
          <button type="button" class="quiet" aria-label={t("app.close")} onClick={() => (notice.value = null)}>
            ×
          </button>
        </p>
      )}
    </div>
  );
}

export function App() {
  const Shown = SHOWN[view.value];
  const dark =
    theme.value === "dark" || (theme.value === null && matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    document.documentElement.lang = language.value;
    document.documentElement.dataset["theme"] = theme.value ?? "";
  }, [language.value, theme.value]);
  return (
    <>
      <a class="skip" href="#main">
        {t("app.skip")}
      </a>
      <header>
        <p class="brand">
          <img src="/studio/icon.svg" alt="" width="24" height="24" /> unclip
        </p>
        <nav>
          {VIEWS.map((name) => (
            <a key={name} href={`#/${name}`} aria-current={view.value === name ? "page" : undefined}>
              {t(`nav.${name}`)}
            </a>
          ))}
        </nav>
        <div class="tools">
          <span class="model" title={t("draw.model")}>
            {model.value?.id ?? ""}
          </span>
          <select
            aria-label={t("app.language")}
            value={language.value}
            onChange={(event) => choose(event.currentTarget.value as Language)}
          >
            {Object.entries(LANGUAGES).map(([code, name]) => (
              <option key={code} value={code}>
                {name}
              </option>
            ))}
          </select>
          <button
            type="button"
            class="quiet"
            aria-label={t("app.theme")}
            onClick={() => (theme.value = dark ? "light" : "dark")}
          >
            {dark ? "☀" : "☾"}
          </button>
          <button
            type="button"
            class="quiet"
            aria-label={t("app.shortcuts")}
            onClick={() => (helpOpen.value = true)}
          >
            ?
          </button>
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        {keyWanted.value ? <KeyForm /> : <Shown />}
      </main>
      <Viewer />
      <Help />
      <Notices />
    </>
  );
}
