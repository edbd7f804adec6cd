"""Figures for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from unclip.runtime import peak_memory_bytes
from unclip.serve.admission import Admission
from unclip.serve.jobs import State

ROWS = (1, 2, 4, 8, 16, 32)
SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counted by whoever does something; the rest is asked when somebody looks."""

    def __init__(self, admission: Admission) -> None:
        self.registry = registry = CollectorRegistry()
        self._rows = Histogram(
            "unclip_batch_pictures", "Pictures in one batch", ["stage"], buckets=ROWS, registry=registry
        )
        self._seconds = Counter(
            "unclip_stage_seconds", "Seconds spent in a stage", ["stage"], registry=registry
        )
        self._jobs = Counter("unclip_jobs", "Jobs that have ended", ["verb", "state"], registry=registry)
        self._latency = Histogram(
            "unclip_job_seconds",
            "From a job's arrival to its end",
            ["verb"],
            buckets=SECONDS,
            registry=registry,
        )
        self._answers = Counter("unclip_answers", "Answers of HTTP", ["status"], registry=registry)
        queue = Gauge("unclip_queue_jobs", "Jobs that wait or are drawn", registry=registry)
        queue.set_function(lambda: admission.jobs)
        work = Gauge("unclip_queue_work", "Their pixels times steps", registry=registry)
        work.set_function(lambda: admission.work)
        wait = Gauge("unclip_queue_seconds", "Estimated time until all of it is drawn", registry=registry)
        wait.set_function(lambda: admission.wait)
        refused = Gauge("unclip_refusals", "Jobs that were not let in", registry=registry)
        refused.set_function(lambda: admission.refused)
        memory = Gauge("unclip_peak_memory_bytes", "Most resident memory so far", registry=registry)
        memory.set_function(peak_memory_bytes)

    def batch(self, stage: str, rows: int, seconds: float) -> None:
        """A batch went through a stage."""
        self._rows.labels(stage).observe(rows)
        self._seconds.labels(stage).inc(seconds)

    def job(self, verb: str, state: State, seconds: float) -> None:
        """A job has ended."""
        self._jobs.labels(verb, str(state)).inc()
        self._latency.labels(verb).observe(seconds)

    def answer(self, status: int) -> None:
        """A request was answered."""
        self._answers.labels(str(status)).inc()

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)
