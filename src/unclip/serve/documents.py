"""Jobs and pictures as they are told of."""

from __future__ import annotations

from typing import Any

from unclip.serve.jobs import Job, State, Stored
from unclip.serve.live import Live
from unclip.serve.service import Service


def job_document(service: Service, job: Live | Job, base: str, stored: list[Stored]) -> dict[str, Any]:
    """The JSON document of a job."""
    if isinstance(job, Job):
        verb, bundle, prompt, n = job.verb, job.bundle, job.prompt, int(job.request.get("n", 1))
    else:
        verb, bundle, prompt, n = job.asked.verb, job.asked.bundle, job.asked.prompt, job.asked.n
    found: dict[str, Any] = {
        "id": job.id,
        "object": "unclip.job",
        "verb": verb,
        "model": bundle,
        "prompt": prompt,
        "n": n,
        "created": int(job.created),
        "state": str(job.state),
        "error": None,
        "pictures": [picture_document(service, one, base) for one in stored],
        "withheld": [one.document for one in job.withheld] if isinstance(job, Live) else list(job.withheld),
    }
    if isinstance(job, Live):
        error = None if job.error is None else job.error.document["error"]
        return found | {
            "error": error,
            "stage": job.stage,
            "step": job.step,
            "total": job.total,
            "fraction": round(job.fraction, 4),
            "ahead": service.ahead(job) if job.state is State.QUEUED else 0,
            "seconds_left": round(service.seconds_left(job), 1) if not job.state.ended else 0.0,
        }
    done = 1.0 if job.state is State.DONE else 0.0
    more = {"stage": "", "step": 0, "total": 0, "fraction": done, "ahead": 0, "seconds_left": 0.0}
    return found | {"error": None if job.error is None else dict(job.error)} | more


def picture_document(service: Service, stored: Stored, base: str) -> dict[str, Any]:
    """The JSON document of a kept picture."""
    return {
        "id": stored.id,
        "object": "unclip.picture",
        "job": stored.job,
        "url": service.addresses.of(stored, base),
        "format": stored.format,
        "bytes": stored.bytes,
        "width": stored.width,
        "height": stored.height,
        "seed": stored.seed,
        "index": stored.number,
        "score": stored.score,
        "prompt": stored.prompt,
        "model": stored.bundle,
        "settings": dict(stored.settings),
        "parents": list(stored.parents),
        "created": stored.created,
        "starred": stored.starred,
        "board": stored.board,
        "deleted": stored.deleted is not None,
    }
