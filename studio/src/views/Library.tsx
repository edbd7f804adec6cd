import { useEffect, useRef } from "preact/hooks";
import * as library from "../state/library";
import { t } from "../state/words";
import { Tile } from "./Jobs";

const SHELVES = ["all", "starred", "bin"] as const;

/** Loads the next page when its end comes into sight. */
function End() {
  const end = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    const watcher = new IntersectionObserver(
      (entries) => {
        if (entries.some((entry) => entry.isIntersecting)) void library.more();
      },
      { rootMargin: "600px" },
    );
    if (end.current) watcher.observe(end.current);
    return () => watcher.disconnect();
  }, [library.next.value]);
  return (
    <button ref={end} type="button" onClick={() => void library.more()}>
      {t("library.more")}
    </button>
  );
}

export function Library() {
  useEffect(() => {
    void library.reload();
  }, []);
  const found = library.pictures.value;
  return (
    <section class="library">
      <h1 class="hidden">{t("nav.library")}</h1>
      <div class="row bar">
        <input
          type="search"
          aria-label={t("library.search")}
          placeholder={t("library.search")}
          value={library.text.value}
          onInput={(event) => {
            library.text.value = event.currentTarget.value;
            void library.reload();
          }}
        />
        <div class="segments" role="group">
          {SHELVES.map((name) => (
            <button
              key={name}
              type="button"
              aria-pressed={library.shelf.value === name}
              onClick={() => {
                library.shelf.value = name;
                void library.reload();
              }}
            >
              {t(`library.${name}`)}
            </button>
          ))}
        </div>
      </div>
      {found.length === 0 && !library.loading.value && (
        <p class="empty">{library.text.value ? t("library.none") : t("library.empty")}</p>
      )}
      <div class="tiles">
        {found.map((picture) => (
          <Tile key={picture.id} picture={picture} />
        ))}
      </div>
      {library.next.value !== null && <End />}
    </section>
  );
}
