import { useEffect } from "preact/hooks";
import * as api from "../api/client";
import { can, model, refusal } from "../state/app";
import * as canvas from "../state/canvas";
import { NARROWEST, TOOLS, WIDEST } from "../state/mask";
import * as saved from "../state/saved";
import * as selection from "../state/selection";
import { FIT, zoomed } from "../state/viewport";
import { momentOf, t } from "../state/words";
import { Board, maskOf } from "./Board";
import { FileButton, IconButton, Prompt, Range, Refusal, Segments } from "./fields";
import { Icon } from "./icons";
import { Progress, Withheld } from "./Jobs";

const ZOOM = 1.4;
const MIDDLE = { x: 0, y: 0 };
const WIDE = { width: 4000, height: 4000 }; // of a box: the middle stays where it is
export const zoom = (by: number): unknown => (canvas.shot.value = zoomed(canvas.shot.value, by, MIDDLE, WIDE));
const percent = (value: number): string => `${Math.round(value * 100)} %`;

function Tools() {
  const { marks, tool } = canvas;
  const masking = canvas.mode.value === "mask";
  return (
    <div class="toolbar" role="toolbar" aria-label={t("canvas.tools")}>
      {masking && (
        <>
          {TOOLS.map((name) => (
            <IconButton
              key={name}
              icon={name}
              label={t(`canvas.${name}`)}
              pressed={tool.value === name}
              onClick={() => {
                tool.value = name;
                canvas.shown.value = null;
              }}
            />
          ))}
          <span class="gap" />
          <IconButton
            icon="undo"
            label={t("canvas.undo")}
            disabled={!marks.canUndo.value}
            onClick={() => marks.undo()}
          />
          <IconButton
            icon="redo"
            label={t("canvas.redo")}
            disabled={!marks.canRedo.value}
            onClick={() => marks.redo()}
          />
          <IconButton icon="invert" label={t("canvas.invert")} onClick={() => marks.add({ kind: "invert" })} />
          <IconButton
            icon="clear"
            label={t("canvas.clear")}
            disabled={marks.shown.value.length === 0}
            onClick={() => marks.add({ kind: "clear" })}
          />
          <span class="gap" />
        </>
      )}
      <IconButton icon="zoomout" label={t("canvas.zoom.out")} onClick={() => zoom(1 / ZOOM)} />
      <IconButton icon="zoomin" label={t("canvas.zoom.in")} onClick={() => zoom(ZOOM)} />
      <IconButton icon="fit" label={t("canvas.zoom.fit")} onClick={() => (canvas.shot.value = FIT)} />
      <small class="saved">{t(`saved.${saved.state.value}`)}</small>
      <IconButton icon="close" label={t("canvas.close")} onClick={saved.close} />
    </div>
  );
}

function Results() {
  const { results, shown, result } = canvas;
  const given = canvas.source.value;
  if (results.value.length === 0 || !given) return null;
  const same = result.value?.width === given.width && result.value.height === given.height;
  return (
    <div class="results">
      <h2>{t("canvas.results")}</h2>
      <div class="strip">
        <button type="button" class="small" aria-pressed={shown.value === null} onClick={() => (shown.value = null)}>
          {t("canvas.before")}
        </button>
        {results.value.map((picture, index) => (
          <button
            key={picture.id}
            type="button"
            class="thumbnail"
            aria-label={t("canvas.result", { number: index + 1 })}
            aria-pressed={shown.value === picture.id}
            onClick={() => (shown.value = picture.id)}
          >
            <img src={api.thumbnailOf(picture.id, 128)} alt="" data-picture={picture.id} />
          </button>
        ))}
      </div>
      {same && <Range label={t("canvas.split")} value={canvas.split} min={0} max={100} text={(value) => `${value} %`} />}
      {result.value && (
        <button type="button" onClick={() => void canvas.keep()}>
          <Icon name="check" /> {t("canvas.keep")}
        </button>
      )}
    </div>
  );
}

function Margins() {
  const sides = ["left", "right", "top", "bottom"] as const;
  const found = canvas.tiles.value;
  return (
    <>
      <p class="hint">{t("canvas.frame")}</p>
      <div class="margins">
        {sides.map((side) => (
          <label key={side} class="field">
            <span>{t(`canvas.${side}`)}</span>
            <input
              type="number"
              min={0}
              max={canvas.LARGEST_MARGIN}
              step={8}
              value={canvas.margins.value[side]}
              onInput={(event) => canvas.setMargin(side, Number(event.currentTarget.value))}
            />
          </label>
        ))}
      </div>
      {found && (
        <p class="hint" role="status">
          {t("canvas.tiles", { count: found.corners.length, side: found.side })}
        </p>
      )}
    </>
  );
}

async function draw(): Promise<void> {
  const given = canvas.source.value;
  if (given && !canvas.busy.value)
    await canvas.draw(() => maskOf(canvas.marks.shown.value, given.width, given.height));
}

function Panel() {
  const extending = canvas.mode.value === "extend";
  const missing = canvas.missing.value;
  return (
    <form
      class="card panel"
      onSubmit={(event) => {
        event.preventDefault();
        void draw();
      }}
    >
      <Segments
        label={t("nav.canvas")}
        among={[
          { value: "mask", text: t("canvas.inside") },
          { value: "extend", text: t("canvas.extend") },
        ]}
        value={canvas.mode.value}
        chosen={(name) => {
          canvas.mode.value = name;
          canvas.shown.value = null;
          canvas.shot.value = FIT;
        }}
      />
      {extending ? (
        <Margins />
      ) : (
        <>
          <Range label={t("canvas.width")} value={canvas.width} min={NARROWEST} max={WIDEST} text={(px) => `${px} px`} />
          <Range
            label={t("canvas.softness")}
            value={canvas.softness}
            min={0}
            max={1}
            step={0.05}
            text={percent}
          />
        </>
      )}
      <Prompt label={t("canvas.prompt")} value={canvas.prompt} send={() => void draw()} rows={3} />
      <Range label={t("canvas.count")} value={canvas.count} min={1} max={6} />
      <Refusal id="refused-edit" refused={refusal.value} />
      <button type="submit" class="primary" disabled={!canvas.ready.value || canvas.busy.value}>
        <Icon name="draw" /> {extending ? t("canvas.extend.button") : t("canvas.button")}
      </button>
      {missing && <small>{t(`canvas.missing.${missing}`)}</small>}
      {!missing && !extending && canvas.prompt.value.trim() === "" && <small>{t("canvas.removes")}</small>}
      {canvas.job.value && canvas.job.value.state !== "done" && <Progress job={canvas.job.value} />}
      <Withheld job={canvas.job.value} />
      <Results />
    </form>
  );
}

function Empty() {
  const list = saved.saved.value;
  return (
    <>
      <div class="empty drop">
        <Icon name="canvas" />
        <p>{t("canvas.drop")}</p>
        <div class="row">
          <button type="button" onClick={() => selection.begin(false)}>
            <Icon name="library" /> {t("canvas.library")}
          </button>
          <FileButton label={t("canvas.open")} chosen={(file) => void canvas.openNew(file, file.name)} />
        </div>
      </div>
      {list.length > 0 && (
        <div class="saved-list">
          <h2>{t("saved.list")}</h2>
          <ul>
            {list.slice(0, 12).map((one) => (
              <li key={one.id}>
                <button type="button" onClick={() => void saved.open(one.id)}>
                  <strong>{one.name || t("picture.nameless")}</strong>
                  <small>{momentOf(one.updated)}</small>
                </button>
                <IconButton
                  icon="close"
                  label={t("saved.forget", { name: one.name })}
                  onClick={() => void saved.forget(one.id)}
                />
              </li>
            ))}
          </ul>
        </div>
      )}
    </>
  );
}

export function Canvas() {
  useEffect(() => {
    if (canvas.source.value === null) void saved.list();
  }, []);
  return (
    <section class="canvas">
      <h1 class="hidden">{t("nav.canvas")}</h1>
      {!can("edit") && model.value && <p class="notice warning">{t("models.cannot", { model: model.value.id })}</p>}
      {canvas.source.value === null ? (
        <Empty />
      ) : (
        <div class="workbench">
          <div class="bench">
            <Tools />
            <Board />
          </div>
          <Panel />
        </div>
      )}
    </section>
  );
}
