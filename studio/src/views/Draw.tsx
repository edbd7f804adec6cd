import { signal } from "@preact/signals";
import type { Option } from "../api/client";
import type { Key } from "../languages/en";
import { en } from "../languages/en";
import { chooseModel, model, models, refusal } from "../state/app";
import * as form from "../state/draw";
import { jobs } from "../state/jobs";
import { settingOf, t } from "../state/words";
import { Choice, Field, FileButton, IconButton, Prompt, Range, Refusal } from "./fields";
import { Icon } from "./icons";
import { JobCard } from "./Jobs";

const settingsOpen = signal(false);
const COUNTS = Array.from({ length: form.MOST }, (_, index) => ({ value: `${index + 1}`, text: `${index + 1}` }));

/** The page's line of help for an option; none where the option is new. */
function helpFor(name: string): string {
  const key = `setting.${name}.hint`;
  return key in en ? t(key as Key) : "";
}

function rangeOf(option: Option): string {
  const by = option.default === null ? "" : ` · ${t("setting.default", { value: option.default })}`;
  if (option.minimum === null && option.maximum === null) return by;
  return ` (${option.minimum ?? ""}\u00a0–\u00a0${option.maximum ?? ""}${by})`; // a range stays in one line
}

function Setting({ option }: { option: Option }) {
  const text = form.settings.value[option.name] ?? "";
  const good = form.fits(option, text);
  if (option.choices.length > 0) {
    const among = [{ value: "", text: t("setting.own") }, ...option.choices.map((one) => ({ value: one, text: one }))];
    return (
      <Choice
        label={settingOf(option.name)}
        hint={helpFor(option.name)}
        value={text}
        among={among}
        chosen={(value) => form.set(option.name, value)}
      />
    );
  }
  return (
    <Field label={settingOf(option.name)} hint={helpFor(option.name) + rangeOf(option)}>
      {(control) => (
        <input
          {...control}
          inputMode="decimal"
          autocomplete="off"
          placeholder={t("setting.own")}
          value={text}
          aria-invalid={!good}
          onInput={(event) => form.set(option.name, event.currentTarget.value.trim())}
        />
      )}
    </Field>
  );
}

function Seed() {
  const last = jobs.value.find((job) => job.verb === "generate" && job.pictures.length > 0)?.pictures[0]?.seed;
  return (
    <Field label={t("draw.seed")} hint={t("draw.seed.hint")}>
      {(control) => (
        <div class="joined">
          <input
            {...control}
            inputMode="numeric"
            autocomplete="off"
            placeholder={t("draw.seed.new")}
            value={form.seed.value}
            onInput={(event) => (form.seed.value = event.currentTarget.value.replace(/\D/g, ""))}
          />
          {form.seed.value !== "" ? (
            <IconButton icon="close" label={t("draw.seed.new")} onClick={() => (form.seed.value = "")} />
          ) : (
            <IconButton
              icon="again"
              label={t("draw.seed.keep")}
              disabled={last === undefined}
              onClick={() => (form.seed.value = String(last ?? ""))}
            />
          )}
        </div>
      )}
    </Field>
  );
}

function Start() {
  if (!form.knows("init")) return null;
  const given = form.init.value;
  return (
    <div class="field">
      <span>{t("draw.init")}</span>
      {given ? (
        <div class="joined">
          <span class="given">{given.name}</span>
          <IconButton
            icon="close"
            label={t("make.remove", { name: given.name })}
            onClick={() => (form.init.value = null)}
          />
        </div>
      ) : (
        <FileButton label={t("canvas.open")} chosen={(file) => (form.init.value = { blob: file, name: file.name })} />
      )}
      {given && (
        <Range
          label={t("make.strength")}
          hint={t("make.strength.hint")}
          value={form.strength}
          min={0}
          max={1}
          step={0.05}
        />
      )}
    </div>
  );
}

function Settings() {
  return (
    <div class="settings" id="settings">
      <div class="grid">
        <Seed />
        <Start />
        {form.options.value.map((option) => (
          <Setting key={option.name} option={option} />
        ))}
      </div>
      {!form.knows("init") && <small>{t("draw.init.not", { model: model.value?.id ?? "" })}</small>}
    </div>
  );
}

function Empty() {
  return (
    <div class="empty">
      <p>{t("draw.empty")}</p>
      {form.tried.value.length > 0 && (
        <>
          <p>{t("draw.try")}</p>
          <div class="chips">
            {form.tried.value.map((text) => (
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
        </>
      )}
    </div>
  );
}

function Drawn() {
  const drawn = jobs.value.filter((job) => job.verb === "generate");
  if (drawn.length === 0) return <Empty />;
  return (
    <>
      {drawn.map((job) => (
        <JobCard key={job.id} job={job} />
      ))}
    </>
  );
}

export function Draw() {
  const refused = refusal.value;
  return (
    <section class="draw">
      <h1 class="hidden">{t("nav.draw")}</h1>
      <form
        class="card composer"
        onSubmit={(event) => {
          event.preventDefault();
          void form.draw();
        }}
      >
        <Prompt
          label={t("draw.prompt")}
          value={form.prompt}
          send={() => void form.draw()}
          describedBy={refused ? "refused" : undefined}
        />
        <Refusal id="refused" refused={refused} />
        <div class="row">
          {models.value.length > 1 && (
            <Choice
              pill
              label={t("draw.model")}
              value={model.value?.id ?? ""}
              among={models.value.map((one) => ({ value: one.id, text: one.id }))}
              chosen={chooseModel}
            />
          )}
          <Choice
            pill
            label={t("draw.count")}
            value={String(form.count.value)}
            among={COUNTS}
            chosen={(count) => (form.count.value = Number(count))}
          />
          <Choice
            pill
            label={t("draw.size")}
            value={form.chosenSize.value}
            among={form.sizes.value.map((size) => ({ value: size, text: size.replace("x", " × ") }))}
            chosen={(size) => (form.size.value = size)}
          />
          {form.styles.value.length > 0 && (
            <Choice
              pill
              label={t("draw.style")}
              value={form.style.value}
              among={[
                { value: "", text: t("setting.own") },
                ...form.styles.value.map((name) => ({ value: name, text: name })),
              ]}
              chosen={(name) => (form.style.value = name)}
            />
          )}
          <button
            type="button"
            class="pill"
            aria-expanded={settingsOpen.value}
            aria-controls="settings"
            onClick={() => (settingsOpen.value = !settingsOpen.value)}
          >
            <Icon name="settings" /> {t("draw.more")}
            {form.changed.value > 0 && <span class="count">{form.changed.value}</span>}
          </button>
          <button type="submit" class="primary" disabled={!form.ready.value}>
            <Icon name="draw" /> {t("draw.button")}
          </button>
        </div>
        {settingsOpen.value && <Settings />}
      </form>
      <Drawn />
    </section>
  );
}
