import { Fragment } from "preact";
import { useEffect, useRef } from "preact/hooks";
import * as api from "../api/client";
import { view } from "../state/app";
import * as canvas from "../state/canvas";
import * as form from "../state/draw";
import { open, remove, restore, star } from "../state/library";
import { take, way } from "../state/make";
import { t } from "../state/words";

function again(picture: api.Picture, sameSeed: boolean): void {
  form.recall(picture, sameSeed);
  open.value = null;
  view.value = "draw";
  void form.draw();
}

async function begin(picture: api.Picture): Promise<void> {
  form.init.value = { blob: await api.blobOf(picture.id), name: picture.prompt };
  form.prompt.value = picture.prompt;
  open.value = null;
  view.value = "draw";
}

/** One picture, large, with its recipe and what can be done with it. */
export function Viewer() {
  const dialog = useRef<HTMLDialogElement>(null);
  const picture = open.value;
  useEffect(() => {
    if (picture && !dialog.current?.open) dialog.current?.showModal();
    if (!picture) dialog.current?.close();
  }, [picture]);
  const leave = (work: Promise<unknown>): void => {
    open.value = null;
    void work;
  };
  return (
    <dialog
      ref={dialog}
      class="viewer"
      aria-label={picture?.prompt ?? ""}
      onClose={() => (open.value = null)}
      onClick={(event) => {
        if (event.target === event.currentTarget) open.value = null;
      }}
    >
      {picture && (
        <div class="sheet">
          <img
            src={api.fileOf(picture.id)}
            alt={t("picture.alt", { prompt: picture.prompt })}
            width={picture.width}
            height={picture.height}
          />
          <div class="side">
            <h2>{picture.prompt}</h2>
            <div class="actions">
              {picture.settings["operation"] === undefined && (
                <>
                  <button type="button" onClick={() => again(picture, true)}>
                    {t("picture.again")}
                  </button>
                  <button type="button" onClick={() => again(picture, false)}>
                    {t("picture.seed")}
                  </button>
                </>
              )}
              <button type="button" onClick={() => void begin(picture)}>
                {t("picture.start")}
              </button>
              <button type="button" onClick={() => leave(canvas.openPicture(picture))}>
                {t("picture.edit")}
              </button>
              <button type="button" onClick={() => leave(take(picture, "vary"))}>
                {t("picture.vary")}
              </button>
              <button type="button" onClick={() => leave(take(picture, "blend"))} aria-pressed={way.value === "blend"}>
                {t("picture.blend")}
              </button>
              <a class="button" href={api.fileOf(picture.id)} download={`${picture.id}.${picture.format}`}>
                {t("picture.download")}
              </a>
              <button type="button" onClick={() => void star(picture)}>
                {picture.starred ? t("picture.unstar") : t("picture.star")}
              </button>
              {picture.deleted ? (
                <button type="button" onClick={() => void restore(picture)}>
                  {t("picture.restore")}
                </button>
              ) : (
                <button type="button" class="danger" onClick={() => void remove(picture)}>
                  {t("picture.delete")}
                </button>
              )}
            </div>
            <h3>{t("picture.recipe")}</h3>
            <dl>
              <dt>{t("draw.model")}</dt>
              <dd>{picture.model}</dd>
              <dt>{t("draw.seed")}</dt>
              <dd>
                {picture.seed} · {picture.index}
              </dd>
              {Object.entries(picture.settings).map(([name, value]) => (
                <Fragment key={name}>
                  <dt>{name}</dt>
                  <dd>{value}</dd>
                </Fragment>
              ))}
            </dl>
          </div>
          <button type="button" class="quiet close" aria-label={t("picture.close")} onClick={() => (open.value = null)}>
            ×
          </button>
        </div>
      )}
    </dialog>
  );
}
