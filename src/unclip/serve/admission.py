"""Who may wait: a bound on jobs, one on work, and an estimate of how long it will take."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from unclip.serve.errors import ApiError

MOST_RETRY_SECONDS = 60  # clients give up on, or ignore, a longer Retry-After
FIRST_RATE = 1e6  # pixels times steps in a second, before anything was drawn
MEMORY = 0.2  # share of the newest measurement in a rate
LEAST_SECONDS = 0.05  # of an estimate that is compared with what came
ALL = ""  # jobs of every kind


@dataclass
class Admission:
    """Counts what waits.

    Attributes:
        most_jobs: that may wait or be drawn, for each worker.
        most_work: pixels times steps of them together, for each worker.
        most_each: jobs of one key, or one address, for each worker.
        workers: that draw at the same time.
        rate: pixels times steps that one of them does in a second.
        late: by kind of job, the seconds that one took over those that its work, and the work ahead of it,
            would tell: in company every step takes longer, and small pictures have steps that cost more
            than their pixels.
    """

    most_jobs: int = 64
    most_work: int = 2**33
    most_each: int = 32
    workers: int = 1
    work: int = 0
    jobs: int = 0
    rate: float = FIRST_RATE
    refused: int = 0
    late: dict[str, float] = field(default_factory=dict)
    _each: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def seconds(self, work: int) -> float:
        """The time that so much work takes one worker."""
        return work / self.rate

    @property
    def wait(self) -> float:
        """Seconds until what is here by now is drawn."""
        return self.expected(ALL, self.queued(self.work))

    def expected(self, kind: str, seconds: float) -> float:
        """Seconds that a job of a kind will take, of which its work and the work ahead tell so many."""
        return seconds * self.late.get(kind, self.late.get(ALL, 1.0))

    def came(self, kind: str, told: float, took: float) -> None:
        """A job of a kind took so many seconds, where its work and the work ahead had told so many."""
        told, took = max(told, LEAST_SECONDS), max(took, LEAST_SECONDS)
        for name in (kind, ALL):
            before = self.late.get(name, self.late.get(ALL, 1.0))
            self.late[name] = before * (took / told / before) ** MEMORY

    def queued(self, work: int) -> float:
        """Seconds until so much work of many jobs is drawn."""
        return self.seconds(work) / self.workers

    def enter(self, who: str, work: int, patience: float | None = None) -> None:
        """Let a job in, which `leave` must follow.

        Args:
            who: key or address.
            work: pixels times steps.
            patience: seconds after which the client will be gone; None does not say.

        Raises:
            ApiError: 429 with the seconds after which to ask again; 400 for what is too much even alone.
        """
        if work > self.most_work:
            seconds = math.ceil(self.seconds(work))
            message = f"this is work for {seconds} s, more than is taken at once: ask for less"
            raise ApiError(400, message, param="n", code="too_much_work")
        reason = None
        if self.jobs >= self.most_jobs * self.workers:
            reason = f"{self.jobs} jobs wait"
        elif self.work + work > self.most_work * self.workers:
            reason = "there is too much to draw"
        elif self._each[who] >= self.most_each * self.workers:
            reason = f"{self._each[who]} of your jobs wait"
        elif patience is not None and self.wait + self.seconds(work) > patience:
            reason = f"the picture would come later than the {patience:g} s that you wait"
        if reason is not None:
            self.refused += 1
            raise self._refusal(reason)
        self.jobs, self.work = self.jobs + 1, self.work + work
        self._each[who] += 1

    def leave(self, who: str, work: int) -> None:
        """A job has ended."""
        self.jobs, self.work = self.jobs - 1, self.work - work
        self._each[who] -= 1
        if not self._each[who]:
            del self._each[who]

    def measured(self, work: float, seconds: float) -> None:
        """So much work was done in so many seconds."""
        if seconds > 0 and work > 0:
            self.rate += MEMORY * (work / seconds - self.rate)

    def _refusal(self, reason: str) -> ApiError:
        wait = self.wait
        retry = max(1, min(MOST_RETRY_SECONDS, math.ceil(wait / 2)))
        return ApiError(
            429,
            f"busy: {reason}; all that is here is drawn in about {math.ceil(wait)} s",
            type="rate_limit_error",
            code="server_busy",
            headers={"retry-after": str(retry)},
            more={"estimated_seconds": round(wait, 1), "jobs_ahead": self.jobs},
        )
