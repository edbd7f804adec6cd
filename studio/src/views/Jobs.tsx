import * as api from "../api/client";
import { cancel } from "../state/jobs";
import { open } from "../state/library";
import { t } from "../state/words";

/** A picture, small, that opens large. */
export function Tile({ picture }: { picture: api.Picture }) {
  return (
    <button type="button" class="tile" onClick={() => (open.value = picture)}>
      <img
        src={api.fileOf(picture.id)}
        alt={t("picture.alt", { prompt: picture.prompt })}
        width={picture.width}
        height={picture.height}
        loading="lazy"
        decoding="async"
      />
      {picture.starred && (
        <span class="star" aria-hidden="true">
          ★
        </span>
      )}
    </button>
  );
}

/** How far a job is: its words, its bar, what can be seen of it, and a button that ends it. */
export function Progress({ job }: { job: api.Job }) {
  const left = job.seconds_left >= 1 ? ` · ${t("job.left", { seconds: Math.round(job.seconds_left) })}` : "";
  const words =
    job.state === "queued"
      ? t("job.queued", { ahead: job.ahead })
      : job.state === "running"
        ? t("job.running", { stage: job.stage, step: job.step, total: job.total }) + left
        : job.state === "failed"
          ? t("job.failed", { reason: job.error?.message ?? "" })
          : job.state === "cancelled"
            ? t("job.cancelled")
            : "";
  const seen = job.state === "running" && (job.stage.startsWith("decoder") || job.stage.startsWith("upsampler"));
  return (
    <div class="progress">
      {!api.isOver(job) && (
        <div class="placeholder">
          {seen && <img src={api.previewOf(job.id, job.step)} alt="" onError={(event) => event.currentTarget.removeAttribute("src")} />}
          <progress max={1} value={job.fraction} aria-label={words} />
        </div>
      )}
      <p class={job.state === "failed" ? "words error" : "words"}>{words}</p>
      {!api.isOver(job) && (
        <button type="button" class="small" onClick={() => void cancel(job.id)}>
          {t("job.cancel")}
        </button>
      )}
    </div>
  );
}
