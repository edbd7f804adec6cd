import { isOver } from "../api/client";
import { chooseModel, model, models } from "../state/app";
import * as form from "../state/draw";
import { jobs } from "../state/jobs";
import { t } from "../state/words";
import { Choice, FileButton, NumberField, Prompt, Range } from "./fields";
import { Progress, Tile } from "./Jobs";

const TRIED = ["a red heart", "a house", "an umbrella", "a star", "딸기", "ein Pilz"];
const COUNTS = Array.from({ length: form.MOST }, (_, index) => String(index + 1)).map((text) => ({
  value: text,
  text,
}));

function Settings() {
  const { knows } = form;
  return (
    <details class="settings">
      <summary>{t("draw.more")}</summary>
      <div class="grid">
        <NumberField label={t("draw.seed")} hint={t("draw.seed.hint")} value={form.seed} />
        {knows("steps") && <NumberField label={t("draw.steps")} hint={t("draw.steps.hint")} value={form.steps} />}
        {knows("guidance") && (
          <NumberField label={t("draw.guidance")} hint={t("draw.guidance.hint")} value={form.guidance} />
        )}
        {knows("rerank") && (
          <NumberField label={t("draw.rerank")} hint={t("draw.rerank.hint")} value={form.rerank} />
        )}
        {knows("init") && (
          <div class="field">
            <span>{t("draw.init")}</span>
            <FileButton
              label={form.init.value?.name ?? t("canvas.open")}
              chosen={(file) => (form.init.value = { blob: file, name: file.name })}
            />
          </div>
        )}
        {form.init.value && (
          <Range
            label={t("draw.strength")}
            hint={t("draw.strength.hint")}
            value={form.strength}
            min={0}
            max={1}
            step={0.05}
          />
        )}
      </div>
    </details>
  );
}

export function Draw() {
  const drawn = jobs.value.filter((job) => job.verb === "generate");
  return (
    <section class="draw">
      <h1 class="hidden">{t("nav.draw")}</h1>
      <form
        class="card"
        onSubmit={(event) => {
          event.preventDefault();
          void form.draw();
        }}
      >
        <Prompt label={t("draw.prompt")} value={form.prompt} send={() => void form.draw()} />
        <div class="row">
          {models.value.length > 1 && (
            <Choice
              label={t("draw.model")}
              value={model.value?.id ?? ""}
              among={models.value.map((one) => ({ value: one.id, text: one.id }))}
              chosen={chooseModel}
            />
          )}
          <Choice
            label={t("draw.count")}
            value={String(form.count.value)}
            among={COUNTS}
            chosen={(count) => (form.count.value = Number(count))}
          />
          <Choice
            label={t("draw.size")}
            value={form.chosenSize.value}
            among={form.sizes.value.map((size) => ({ value: size, text: size.replace("x", " × ") }))}
            chosen={(size) => (form.size.value = size)}
          />
          <button type="submit" class="primary" disabled={!form.ready.value}>
            {t("draw.button")}
          </button>
        </div>
        <Settings />
      </form>
      {drawn.length === 0 && (
        <div class="empty">
          <p>{t("draw.empty")}</p>
          <p>{t("draw.try")}:</p>
          <div class="chips">
            {TRIED.map((text) => (
              <button
                key={text}
                type="button"
                onClick={() => {
                  form.prompt.value = text;
                  void form.draw();
                }}
              >
                {text}
              </button>
            ))}
          </div>
        </div>
      )}
      {drawn.map((job) => (
        <article key={job.id} class="job">
          {job.state !== "done" && <Progress job={job} />}
          {isOver(job) && job.pictures.length > 0 && (
            <>
              <h2>{job.pictures[0]?.prompt}</h2>
              <div class="tiles">
                {job.pictures.map((picture) => (
                  <Tile key={picture.id} picture={picture} />
                ))}
              </div>
            </>
          )}
        </article>
      ))}
    </section>
  );
}
