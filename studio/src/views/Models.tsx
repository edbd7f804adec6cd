import { useEffect } from "preact/hooks";
import { chooseModel, loadModels, model, models } from "../state/app";
import { t } from "../state/words";

export function Models() {
  useEffect(() => {
    void loadModels();
  }, []);
  return (
    <section class="models">
      <h1 class="hidden">{t("nav.models")}</h1>
      {models.value.map((one) => (
        <article key={one.id} class="card">
          <label class="row">
            <input
              type="radio"
              name="model"
              checked={model.value?.id === one.id}
              onChange={() => chooseModel(one.id)}
            />
            <strong>{one.id}</strong>
            <span class="badge">{one.family}</span>
            <span class="badge">{one.loaded ? t("models.loaded") : t("models.not.loaded")}</span>
          </label>
          <dl>
            <dt>{t("models.sizes")}</dt>
            <dd>{one.sizes.join(", ")}</dd>
            <dt>{t("models.can")}</dt>
            <dd>{one.verbs.join(", ")}</dd>
            <dt>{t("models.licence")}</dt>
            <dd>{one.licence}</dd>
            <dt>{t("models.weights")}</dt>
            <dd>{one.identity}</dd>
          </dl>
        </article>
      ))}
    </section>
  );
}
