import * as api from "../api/client";
import { can, model } from "../state/app";
import * as make from "../state/make";
import { t } from "../state/words";
import { FileButton, Range } from "./fields";
import { Progress, Tile } from "./Jobs";

const WAYS: readonly make.Way[] = ["vary", "blend", "restyle"];
const NAMED = { vary: "make.vary", blend: "make.blend", restyle: "make.change" } as const;
const HINTS = { vary: "make.vary.hint", blend: "make.blend.hint", restyle: "make.change.hint" } as const;

function Results() {
  const found = make.results.value;
  if (found.length === 0) return null;
  if (make.way.value === "vary") {
    return (
      <div class="tiles">
        {found.map((picture) => (
          <Tile key={picture.id} picture={picture} />
        ))}
      </div>
    );
  }
  const shown = found[Math.min(make.frame.value, found.length - 1)];
  return (
    <div class="film">
      {shown && <Tile picture={shown} />}
      <Range label={t("make.slider")} value={make.frame} min={0} max={found.length - 1} />
      <div class="ahead" aria-hidden="true">
        {found.map((picture) => (
          <img key={picture.id} src={api.fileOf(picture.id)} alt="" />
        ))}
      </div>
    </div>
  );
}

export function Make() {
  const { way } = make;
  return (
    <section class="make">
      <h1 class="hidden">{t("nav.make")}</h1>
      <div class="segments" role="group">
        {WAYS.map((name) => (
          <button key={name} type="button" aria-pressed={way.value === name} onClick={() => (way.value = name)}>
            {t(NAMED[name])}
          </button>
        ))}
      </div>
      {!can(way.value) && model.value && (
        <p class="notice warning">{t("models.cannot", { model: model.value.id })}</p>
      )}
      <form
        class="card"
        onSubmit={(event) => {
          event.preventDefault();
          void make.make();
        }}
      >
        <p>{t(HINTS[way.value])}</p>
        <div class="chosen">
          {make.used.value.map((one) => (
            <figure key={one.url}>
              <img src={one.url} alt={one.name} />
              <button
                type="button"
                class="quiet"
                aria-label={t("make.remove", { name: one.name })}
                onClick={() => make.drop(one)}
              >
                ×
              </button>
            </figure>
          ))}
          {make.used.value.length < make.MOST[way.value] && (
            <div class="empty">
              <small>{t("make.choose")}</small>
              <FileButton label={t("canvas.open")} chosen={(file) => make.add(file, file.name)} />
            </div>
          )}
        </div>
        {way.value === "vary" && (
          <div class="grid">
            <Range label={t("draw.count")} value={make.count} min={1} max={10} />
            <Range
              label={t("draw.strength")}
              hint={t("draw.strength.hint")}
              value={make.strength}
              min={0}
              max={1}
              step={0.05}
            />
          </div>
        )}
        {way.value === "restyle" && (
          <div class="grid">
            <input
              aria-label={t("make.from")}
              placeholder={t("make.from")}
              value={make.origin.value}
              onInput={(event) => (make.origin.value = event.currentTarget.value)}
            />
            <input
              aria-label={t("make.to")}
              placeholder={t("make.to")}
              value={make.target.value}
              onInput={(event) => (make.target.value = event.currentTarget.value)}
            />
          </div>
        )}
        {way.value !== "vary" && <Range label={t("make.frames")} value={make.frames} min={2} max={24} />}
        <button
          type="submit"
          class="primary"
          disabled={!make.ready.value || make.busy.value || !can(way.value)}
        >
          {t("make.button")}
        </button>
        {make.job.value && make.job.value.state !== "done" && <Progress job={make.job.value} />}
      </form>
      <Results />
    </section>
  );
}
