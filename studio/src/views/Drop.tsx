import { useEffect, useState } from "preact/hooks";
import * as api from "../api/client";
import { attempt, view } from "../state/app";
import * as canvas from "../state/canvas";
import * as form from "../state/draw";
import { dropped } from "../state/drop";
import { findLike } from "../state/library";
import * as make from "../state/make";
import { t } from "../state/words";
import { Dialog } from "./Dialog";
import { Icon } from "./icons";
import { Verdict } from "./Verdict";

function use(what: make.Way, file: File): void {
  make.choose(what);
  make.add(file, file.name);
  view.value = "make";
}

/** A picture that was dropped or pasted: what it says of itself, and what can be done with it. */
export function Drop() {
  const file = dropped.value;
  const [origin, setOrigin] = useState<api.Origin | null>(null);
  const [url, setUrl] = useState("");
  useEffect(() => {
    setOrigin(null);
    if (!file) return undefined;
    const made = URL.createObjectURL(file);
    setUrl(made);
    void attempt(() => api.verify(file)).then((found) => {
      if (found && dropped.value === file) setOrigin(found);
    });
    return () => URL.revokeObjectURL(made);
  }, [file]);
  const recipe = origin && form.recipeOf(origin, 0);
  const close = (): void => {
    dropped.value = null;
  };
  const then = (work: () => unknown): void => {
    close();
    void work();
  };
  return (
    <Dialog open={file !== null} close={close} label={t("drop.title")} class="drop-dialog">
      {file && (
        <div class="dropped">
          <img src={url} alt={file.name} />
          <div class="side">
            <h2>{recipe ? recipe.prompt : file.name}</h2>
            {origin && <Verdict origin={origin} />}
            <div class="actions">
              {recipe && (
                <button
                  type="button"
                  class="primary"
                  onClick={() =>
                    then(() => {
                      form.recall(recipe, true);
                      view.value = "draw";
                    })
                  }
                >
                  <Icon name="again" /> {t("drop.recall")}
                </button>
              )}
              <button type="button" onClick={() => then(() => canvas.openNew(file, file.name))}>
                <Icon name="canvas" /> {t("picture.edit")}
              </button>
              <button type="button" onClick={() => then(() => use("vary", file))}>
                <Icon name="make" /> {t("picture.vary")}
              </button>
              <button type="button" onClick={() => then(() => use("blend", file))}>
                {t("picture.blend")}
              </button>
              <button type="button" onClick={() => then(() => use("restyle", file))}>
                {t("make.change")}
              </button>
              {form.knows("init") && (
                <button
                  type="button"
                  onClick={() =>
                    then(() => {
                      form.init.value = { blob: file, name: file.name };
                      view.value = "draw";
                    })
                  }
                >
                  {t("picture.start")}
                </button>
              )}
              <button
                type="button"
                onClick={() =>
                  then(() => {
                    view.value = "library";
                    return findLike(file, file.name);
                  })
                }
              >
                <Icon name="search" /> {t("picture.similar")}
              </button>
            </div>
          </div>
        </div>
      )}
    </Dialog>
  );
}
