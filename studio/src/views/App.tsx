import { useEffect } from "preact/hooks";
import { helpOpen, keyWanted, model, notice, offline, theme, VIEWS, view } from "../state/app";
import { choose, LANGUAGES, language, type Language, t } from "../state/words";
import { Canvas } from "./Canvas";
import { Compare } from "./Compare";
import { Draw } from "./Draw";
import { Drop } from "./Drop";
import { IconButton } from "./fields";
import { Folder } from "./Folder";
import { Help } from "./Help";
import { Icon } from "./icons";
import { KeyForm } from "./KeyForm";
import { Library } from "./Library";
import { Make } from "./Make";
import { Models } from "./Models";
import { Viewer } from "./Viewer";

const SHOWN = { draw: Draw, canvas: Canvas, make: Make, library: Library, folder: Folder, models: Models };
const SAID_FOR = 8000; // milliseconds

function Notices() {
  const said = notice.value;
  useEffect(() => {
    if (!said) return undefined;
    const timer = setTimeout(() => {
      if (notice.value === said) notice.value = null;
    }, SAID_FOR);
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
          <IconButton icon="close" label={t("app.close")} onClick={() => (notice.value = null)} />
        </p>
      )}
    </div>
  );
}

function Header({ dark }: { dark: boolean }) {
  return (
    <header class="masthead">
      <p class="brand">
        <img src="/studio/icon.svg" alt="" width="28" height="28" /> unclip
      </p>
      <nav aria-label="unclip">
        {VIEWS.map((name) => (
          <a key={name} href={`#/${name}`} aria-current={view.value === name ? "page" : undefined}>
            <Icon name={name} />
            <span>{t(`nav.${name}`)}</span>
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
        <IconButton
          icon={dark ? "sun" : "moon"}
          label={t("app.theme")}
          onClick={() => (theme.value = dark ? "light" : "dark")}
        />
        <IconButton icon="help" label={t("app.shortcuts")} onClick={() => (helpOpen.value = true)} />
      </div>
    </header>
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
      <Header dark={dark} />
      <main id="main" tabIndex={-1}>
        {keyWanted.value ? <KeyForm /> : <Shown />}
      </main>
      <Viewer />
      <Compare />
      <Drop />
      <Help />
      <Notices />
    </>
  );
}
