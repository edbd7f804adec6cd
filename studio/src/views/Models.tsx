import { useEffect } from "preact/hooks";
import type { Known, Model } from "../api/client";
import type { Key } from "../languages/en";
import { en } from "../languages/en";
import { chooseModel, loadModels, model, models } from "../state/app";
import * as held from "../state/models";
import { numberOf, t } from "../state/words";
import { Icon } from "./icons";
import { Markdown } from "./Markdown";

const SHOWN_TYPES = ["float32", "bfloat16"]; // float16 takes what bfloat16 takes
const word = (key: string, name: string): string => (key in en ? t(key as Key) : name);
const verb = (name: string): string => word(`verb.${name}`, name);
const ability = (name: string): string => word(`ability.${name.replaceAll(" ", "-")}`, name);

/** What its weights take when it is loaded. */
const memoryOf = ({ memory_bytes: bytes }: Known | Model): string =>
  SHOWN_TYPES.map((type) => `${held.sizeOf(bytes[type]?.["all"] ?? 0)} ${type}`).join(", ");

function Rows({ rows }: { rows: readonly [string, string][] }) {
  return (
    <dl>
      {rows.map(([name, value]) => [<dt key={name}>{name}</dt>, <dd key={`${name}-value`}>{value}</dd>])}
    </dl>
  );
}

function LoadButton({ id, loaded }: { id: string; loaded: boolean }) {
  const changing = held.changing.value.has(id);
  return (
    <button type="button" disabled={changing} onClick={() => void held.setLoaded(id, !loaded)}>
      {changing ? t("app.loading") : loaded ? t("models.unload") : t("models.load")}
    </button>
  );
}

function Facts({ one }: { one: Model }) {
  const rows: [string, string][] = [
    [t("models.can"), one.verbs.map(verb).join(", ")],
    [t("models.sizes"), one.sizes.map((size) => size.replace("x", "\u00a0×\u00a0")).join(", ")],
    [t("models.languages"), one.languages.join(", ") || "–"],
    [t("models.styles"), one.styles.join(", ") || "–"],
    [t("models.bytes"), held.sizeOf(one.bytes)],
    [t("models.memory"), memoryOf(one)],
    [t("models.licence"), one.licence],
    [t("models.weights"), one.identity],
  ];
  return <Rows rows={rows} />;
}

function Served({ one }: { one: Model }) {
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
        <LoadButton id={one.id} loaded={one.loaded} />
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

function OtherFacts({ one }: { one: Known }) {
  const rows: [string, string][] = [
    [t("models.can"), one.abilities.map(ability).join(", ")],
    [t("models.size"), t("models.parameters", { count: millions(one.parameters) })],
    [t("models.memory"), memoryOf(one)],
    [t("models.licence"), one.licence || "–"],
  ];
  if (one.on_disk) rows.push([t("models.bytes"), held.sizeOf(one.stored_bytes)]);
  return (
    <>
      <Rows rows={rows} />
      {one.page !== "" && (
        <a href={one.page} target="_blank" rel="noreferrer">
          {t("models.page")}
        </a>
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
              {one.on_disk && <span class="badge good">{t("models.here")}</span>}
            </div>
            <OtherFacts one={one} />
            {one.broken && <p class="error">{t("models.broken")}</p>}
            <Pull one={one} />
            {one.on_disk && one.draws && !one.broken && <LoadButton id={one.id} loaded={false} />}
          </li>
        ))}
      </ul>
    </>
  );
}

const millions = (count: number): string => numberOf(count / 1e6, count < 1e7 ? 1 : 0);

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
