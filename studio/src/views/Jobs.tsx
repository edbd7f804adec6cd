import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import * as api from "../api/client";
import type { Key } from "../languages/en";
import { cancel, dismiss, withheld } from "../state/jobs";
import { open } from "../state/library";
import { t } from "../state/words";
import { IconButton } from "./fields";
import { Icon } from "./icons";

/** Stages by the beginnings of their names; another's name stands as it is. */
const STAGES: Readonly<Record<string, Key>> = {
  text: "stage.text",
  prior: "stage.prior",
  "ar-prior": "stage.prior",
  decoder: "stage.decoder",
  transformer: "stage.decoder",
  upsampler: "stage.upsampler",
  inversion: "stage.inversion",
  inverting: "stage.inversion",
  pictures: "stage.pictures",
  tiles: "stage.tiles",
};
const SHOWN = ["decoder", "upsampler"];
const PREVIEW_REST = 400; // milliseconds

function stageOf(job: api.Job): string {
  const found = Object.entries(STAGES).find(([name]) => job.stage.startsWith(name));
  return found ? t(found[1]) : job.stage;
}

/** A picture, small, that opens large. */
export function Tile({ picture, side = 256 }: { picture: api.Picture; side?: number }) {
  return (
    <button type="button" class="tile" onClick={() => (open.value = picture)}>
      <Thumbnail picture={picture} side={side} />
      {picture.starred && <Star />}
    </button>
  );
}

export function Thumbnail({ picture, side }: { picture: api.Picture; side: number }) {
  return (
    <img
      src={api.thumbnailOf(picture.id, side)}
      alt={t("picture.alt", { prompt: picture.prompt })}
      loading="lazy"
      decoding="async"
    />
  );
}

export function Star() {
  return (
    <span class="star" aria-hidden="true">
      <Icon name="star" filled />
    </span>
  );
}

function wordsOf(job: api.Job): string {
  const left = job.seconds_left >= 1 ? ` · ${t("job.left", { seconds: Math.round(job.seconds_left) })}` : "";
  if (job.state === "queued") return (job.ahead > 0 ? t("job.queued", { ahead: job.ahead }) : t("job.next")) + left;
  if (job.state === "running") {
    return t("job.running", { stage: stageOf(job), step: job.step, total: job.total }) + left;
  }
  if (job.state === "cancelled") return t("job.cancelled");
  if (job.state !== "failed") return "";
  const reason = job.error?.message ?? "";
  return job.error?.code === "content_policy_violation" ? `${t("refused.policy")} ${reason}` : t("job.failed", { reason });
}

function Over({ job, words }: { job: api.Job; words: string }) {
  return (
    <div class="progress">
      <p class={job.state === "failed" ? "words error" : "words"} role={job.state === "failed" ? "alert" : "status"}>
        {words}
      </p>
      <IconButton icon="close" label={t("app.close")} onClick={() => dismiss(job.id)} />
    </div>
  );
}

function Told({ job, words }: { job: api.Job; words: string }) {
  return (
    <div class="told">
      <p class="words">{words}</p>
      <button type="button" class="small" onClick={() => void cancel(job.id)}>
        {t("job.cancel")}
      </button>
    </div>
  );
}

/** What can be seen of a job by now, asked for no more often than an eye follows. */
export function Preview({ job, ...props }: { job: api.Job; class?: string; style?: Record<string, string> }) {
  const [url, setUrl] = useState("");
  const asked = useRef(0);
  const seen = job.state === "running" && SHOWN.some((name) => job.stage.startsWith(name));
  useEffect(() => {
    if (!seen || performance.now() - asked.current < PREVIEW_REST) return;
    asked.current = performance.now();
    setUrl(api.previewOf(job.id, job.step));
  }, [job]);
  return url === "" ? null : <img {...props} src={url} alt="" onError={() => setUrl("")} />;
}

/** How far a job is: its words, its bar, what can be seen of it, and a button that ends it. */
export function Progress({ job }: { job: api.Job }) {
  const words = wordsOf(job);
  if (api.isOver(job)) return <Over job={job} words={words} />;
  return (
    <div class="progress">
      <div class="placeholder">
        <Preview job={job} />
        <progress max={1} value={job.fraction} aria-label={words} />
      </div>
      <Told job={job} words={words} />
    </div>
  );
}

/** The same with a place for each picture that is to come; while it waits, a line alone. */
function Coming({ job }: { job: api.Job }) {
  const words = wordsOf(job);
  if (api.isOver(job)) return <Over job={job} words={words} />;
  if (job.state === "queued") return <Told job={job} words={words} />;
  return (
    <>
      <progress class="line" max={1} value={job.fraction} aria-label={words} />
      <Told job={job} words={words} />
      <div class={job.n < 3 ? "tiles few" : "tiles"}>
        {Array.from({ length: job.n }, (_, index) => (
          <div key={index} class="placeholder ghost">
            {index === 0 && <Preview job={job} />}
          </div>
        ))}
      </div>
    </>
  );
}

/** The pictures that the server's policy did not let out, said where the others stand. */
export function Withheld({ job }: { job: api.Job | undefined }) {
  if (!job || job.withheld.length === 0) return null;
  return (
    <p class="refusal" role="status">
      {withheld(job)}
    </p>
  );
}

/** A job of the view Draw: while it is drawn, and what came of it. Redrawn only when it has changed. */
export function JobCard({ job }: { job: api.Job }) {
  return useMemo(() => {
    const [first] = job.pictures;
    return (
      <article class="job">
        <header class="jobhead">
          <h2>{job.prompt}</h2>
          {first && (
            <small>
              {first.model} · {first.width} × {first.height}
            </small>
          )}
        </header>
        {job.state !== "done" && <Coming job={job} />}
        <Withheld job={job} />
        {first && (
          <div class={job.pictures.length < 3 ? "tiles few" : "tiles"}>
            {job.pictures.map((picture) => (
              <Tile key={picture.id} picture={picture} side={512} />
            ))}
          </div>
        )}
      </article>
    );
  }, [job, t("job.cancel")]);
}
