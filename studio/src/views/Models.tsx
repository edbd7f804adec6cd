import { useEffect } from "preact/hooks";
import type { Known, Model } from "../api/client";
import type { Key } from "../languages/en";
import { en } from "../languages/en";
import { chooseModel, loadModels, model, models } from "../state/app";
import * as held from "../state/models";
import { t } from "../state/words";
import { Icon } from "./icons";
import { Markdown } from "./Markdown";

const verb = (name: string): string => (`verb.${name}` in en ? t(`verb.${name}` as Key) : name);

/** What its parts take when it is loaded, in the narrower type. */
function memoryOf(id: string): string {
  const found = held.known.value.find((one) => one.id === id)?.memory_bytes;
  if (!found) return "–";
  return Object.entries(found)
    .map(([type, parts]) => `${type} ${held.sizeOf(Object.values(parts).reduce((sum, one) => sum + one, 0))}`)
    .join(", ");
}

function Facts({ one }: { one: Model }) {
  const rows: [string, string][] = [
    [t("models.can"), one.verbs.map(verb).join(", ")],
    [t("models.sizes"), one.sizes.map((size) => size.replace("x", " × ")).join(", ")],
    [t("models.languages"), one.languages.join(", ") || "–"],
    [t("models.styles"), one.styles.join(", ") || "–"],
    [t("models.bytes"), held.sizeOf(one.bytes)],
    [t("models.memory"), memoryOf(one.id)],
    [t("models.licence"), one.licence],
    [t("models.weights"), one.identity],
  ];
  return (
    <dl>
      {rows.map(([name, value]) => [<dt key={name}>{name}</dt>, <dd key={`${name}-value`}>{value}</dd>])}
    </dl>
  );
}

function Served({ one }: { one: Model }) {
  const changing = held.changing.value.has(one.id);
  const card = held.cards.value.get(one.id);
  return (
    <article class="card">
      <div class="row">
        <label class="radio">
          <input type="radio" name="model" checked={model.value?.id === one.id} onChange={() => chooseModel(one.id)} />
          <strong>{one.id}</strong>
        </label>
        <span class="badge">{one.family}</span>
        <span class={one.loaded ? "badge good" : "badge"}>
          {one.loaded ? t("models.loaded") : t("models.not.loaded")}
        </span>
        <button type="button" disabled={changing} onClick={() => void held.setLoaded(one.id, !one.loaded)}>
          {changing ? t("app.loading") : one.loaded ? t("models.unload") : t("models.load")}
        </button>
      </div>
      <Facts one={one} />
      <details
        onToggle={(event) => {
          if (event.currentTarget.open) void held.readCard(one.id);
        }}
      >
        <summary>{t("models.card")}</summary>
        {card !== undefined && <Markdown text={card} />}
      </details>
    </article>
  );
}

/** How far a model has come. */
function Pull({ one }: { one: Known }) {
  const { pull } = one;
  const coming = pull?.state === "running" || pull?.state === "queued";
  return (
    <>
      {coming ? (
        <button type="button" onClick={() => void held.fetch(one.id, true)}>
          {t("job.cancel")}
        </button>
      ) : (
        one.can_pull &&
        !one.on_disk && (
          <button type="button" onClick={() => void held.fetch(one.id)}>
            <Icon name="download" /> {one.unfinished_bytes > 0 ? t("models.fetch.on") : t("models.fetch")}
          </button>
        )
      )}
      {coming && (
        <div class="bytes">
          <progress max={Math.max(1, pull.total)} value={pull.done} aria-label={pull.stage} />
          <small role="status">
            {pull.stage} · {held.sizeOf(pull.done)} / {held.sizeOf(pull.total)}
          </small>
        </div>
      )}
      {pull?.error && (
        <p class="error" role="alert">
          {pull.error}
        </p>
      )}
    </>
  );
}

function Others() {
  const others = held.others.value;
  if (others.length === 0) return null;
  return (
    <>
      <h2>{t("models.others")}</h2>
      <ul class="others">
        {others.map((one) => (
          <li key={one.id} class="card">
            <div class="row">
              <strong>{one.id}</strong>
              <span class="badge">{one.family}</span>
              {one.on_disk && <span class="badge good">{held.sizeOf(one.stored_bytes)}</span>}
            </div>
            <small>
              {one.abilities.join(", ")} · {t("models.parameters", { count: millions(one.parameters) })} · {one.licence}
            </small>
            <Pull one={one} />
          </li>
        ))}
      </ul>
    </>
  );
}

const millions = (count: number): string => (count / 1e6).toLocaleString(undefined, { maximumFractionDigits: 0 });

export function Models() {
  useEffect(() => {
    void loadModels();
    void held.loadKnown();
  }, []);
  return (
    <section class="models">
      <h1 class="hidden">{t("nav.models")}</h1>
      {models.value.map((one) => (
        <Served key={one.id} one={one} />
      ))}
      <Others />
    </section>
  );
}
