import * as api from "../api/client";
import { can, model, refusal } from "../state/app";
import * as make from "../state/make";
import * as plane from "../state/plane";
import * as selection from "../state/selection";
import { t } from "../state/words";
import { FileButton, IconButton, Range, Refusal, Segments } from "./fields";
import { Icon } from "./icons";
import { Progress, Tile, Withheld } from "./Jobs";
import { Plane } from "./Plane";

const NAMED = { vary: "make.vary", blend: "make.blend", restyle: "make.change" } as const;
const HINTS = { vary: "make.vary.hint", blend: "make.blend.hint", restyle: "make.change.hint" } as const;
const percent = (value: number): string => `${Math.round(value * 100)} %`;

function Variations() {
  const [given] = make.used.value;
  return (
    <>
      {make.variations.value.map((one) => (
        <article key={one.job.id} class="job">
          <header class="jobhead">
            <h2>
              {t("make.strength")} {percent(one.strength)}
            </h2>
          </header>
          <Withheld job={one.job} />
          <div class="tiles">
            {given && (
              <figure class="tile original">
                <img src={given.url} alt={given.name} />
                <figcaption>{t("canvas.before")}</figcaption>
              </figure>
            )}
            {one.job.pictures.map((picture) => (
              <Tile key={picture.id} picture={picture} side={512} />
            ))}
          </div>
        </article>
      ))}
    </>
  );
}

/** Frames along a line, all of them there, so that the slider never waits. */
function Film() {
  const found = make.results.value;
  const shown = found[Math.min(make.frame.value, found.length - 1)];
  if (!shown) return null;
  const ids = found.map((one) => one.id);
  const ends = make.way.value === "blend" ? make.used.value.map((one) => one.name) : [make.origin.value, make.target.value];
  return (
    <div class="film">
      <Withheld job={make.job.value} />
      <Tile picture={shown} side={512} />
      <div class="controls">
        <Range
          label={make.way.value === "blend" ? t("make.slider.blend") : t("make.slider")}
          value={make.frame}
          min={0}
          max={found.length - 1}
          text={(value) => percent(make.shareOf(found[value]))}
        />
        <div class="ends" aria-hidden="true">
          <span>{ends[0] || t("canvas.before")}</span>
          <span>{ends.at(-1)}</span>
        </div>
        <div class="reel">
          {found.map((picture, index) => (
            <button
              key={picture.id}
              type="button"
              class="thumbnail"
              aria-label={t("make.frame", { number: picture.index + 1 })}
              aria-pressed={index === make.frame.value}
              onClick={() => (make.frame.value = index)}
            >
              <img src={api.thumbnailOf(picture.id, 128)} alt="" />
            </button>
          ))}
        </div>
        <div class="actions">
          {(["gif", "webp"] as const).map((format) => (
            <a key={format} class="button" href={api.filmOf(ids, format)} download={`frames.${format}`}>
              <Icon name="download" /> {format.toUpperCase()}
            </a>
          ))}
        </div>
      </div>
      <div class="ahead" aria-hidden="true">
        {found.map((picture) => (
          <img key={picture.id} src={api.thumbnailOf(picture.id, 512)} alt="" />
        ))}
      </div>
    </div>
  );
}

function Chosen() {
  const used = make.used.value;
  const several = make.MOST[make.way.value] > 1;
  return (
    <div class="chosen">
      {used.map((one, index) => (
        <figure key={one.url}>
          <img src={one.url} alt={one.name} />
          <IconButton icon="close" label={t("make.remove", { name: one.name })} onClick={() => make.drop(one)} />
          {several && used.length > 1 && (
            <figcaption>
              <IconButton
                icon="left"
                label={t("make.earlier", { name: one.name })}
                disabled={index === 0}
                onClick={() => make.move(one, -1)}
              />
              <IconButton
                icon="right"
                label={t("make.later", { name: one.name })}
                disabled={index === used.length - 1}
                onClick={() => make.move(one, 1)}
              />
            </figcaption>
          )}
        </figure>
      ))}
      {used.length < make.MOST[make.way.value] && (
        <div class="empty">
          <small>{several ? t("make.choose.several") : t("make.choose")}</small>
          <button type="button" onClick={() => selection.begin(several)}>
            <Icon name="library" /> {t("canvas.library")}
          </button>
          <FileButton label={t("canvas.open")} chosen={(file) => make.add(file, file.name)} />
        </div>
      )}
    </div>
  );
}

function Texts() {
  return (
    <div class="grid texts">
      {(["origin", "target"] as const).map((name) => (
        <label key={name} class="field">
          <span>{t(name === "origin" ? "make.from" : "make.to")}</span>
          <input
            placeholder={t(name === "origin" ? "make.from.example" : "make.to.example")}
            value={make[name].value}
            onInput={(event) => (make[name].value = event.currentTarget.value)}
          />
        </label>
      ))}
    </div>
  );
}

function Numbers() {
  if (make.onPlane.value) return null;
  if (make.way.value !== "vary") return <Range label={t("make.frames")} value={make.frames} min={3} max={24} />;
  return (
    <div class="grid">
      <Range label={t("draw.count")} value={make.count} min={1} max={10} />
      <Range
        label={t("make.strength")}
        hint={t("make.strength.vary")}
        value={make.strength}
        min={0}
        max={1}
        step={0.05}
        text={percent}
      />
    </div>
  );
}

function send(): void {
  void (make.onPlane.value ? plane.draw() : make.make());
}

export function Make() {
  const way = make.way.value;
  const busy = make.onPlane.value ? plane.running.value : make.busy.value;
  return (
    <section class="make">
      <h1 class="hidden">{t("nav.make")}</h1>
      <Segments
        label={t("nav.make")}
        among={make.WAYS.map((name) => ({ value: name, text: t(NAMED[name]) }))}
        value={way}
        chosen={make.choose}
      />
      {!can(way) && model.value && <p class="notice warning">{t("models.cannot", { model: model.value.id })}</p>}
      <form
        class="card"
        onSubmit={(event) => {
          event.preventDefault();
          if (make.ready.value && !busy) send();
        }}
      >
        <p class="hint">{t(HINTS[way])}</p>
        <div class="making">
          <Chosen />
          <div class="controls">
            {way === "restyle" && <Texts />}
            <Numbers />
          </div>
        </div>
        <Refusal id="refused-make" refused={refusal.value} />
        <div class="row">
          <button type="submit" class="primary" disabled={!make.ready.value || busy || !can(way)}>
            <Icon name="draw" /> {t("make.button")}
          </button>
        </div>
        {!make.onPlane.value && make.job.value && make.job.value.state !== "done" && <Progress job={make.job.value} />}
      </form>
      {way === "vary" ? <Variations /> : make.onPlane.value ? <Plane /> : <Film />}
    </section>
  );
}
