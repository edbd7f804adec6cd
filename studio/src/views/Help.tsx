import { Fragment } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { helpOpen } from "../state/app";
import { t } from "../state/words";

const SHORTCUTS = [
  ["Enter", "keys.draw"],
  ["1 – 5", "keys.views"],
  ["Ctrl Z, Ctrl Y", "keys.undo"],
  ["[ ]", "keys.brush"],
  ["?", "keys.help"],
  ["Esc", "keys.close"],
] as const;

export function Help() {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (helpOpen.value && !dialog.current?.open) dialog.current?.showModal();
    if (!helpOpen.value) dialog.current?.close();
  }, [helpOpen.value]);
  return (
    <dialog ref={dialog} class="help" aria-label={t("app.shortcuts")} onClose={() => (helpOpen.value = false)}>
      <h2>{t("app.shortcuts")}</h2>
      <dl>
        {SHORTCUTS.map(([keys, what]) => (
          <Fragment key={keys}>
            <dt>
              <kbd>{keys}</kbd>
            </dt>
            <dd>{t(what)}</dd>
          </Fragment>
        ))}
      </dl>
      <button type="button" onClick={() => (helpOpen.value = false)}>
        {t("app.close")}
      </button>
    </dialog>
  );
}
