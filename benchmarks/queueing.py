"""The use of 1, 10 and 1,000 replicas, by simulation, checked against small runs: `benchmarks/queueing.py`.

The simulation does what `unclip serve --ray` does: jobs arrive by chance; the server takes a time of its own
for each, one after the other; the router takes two replicas by chance and sends a job to the one that has
fewer, at most 16; a replica takes all its jobs a step further at once, and b pictures take `step(b)` seconds.

    python benchmarks/queueing.py                 the simulation alone, a minute of one core
    python benchmarks/queueing.py --measure       and the runs that check it: needs the extra `cluster`

The runs that are measured are of tasks that sleep, one at a time in a replica, so that two cores can hold
several: routing, messages and waiting are real, drawing is not, and neither is HTTP. Writes
`benchmarks/results/queueing.json`.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "queueing.json"
AT_ONCE = 16  # jobs of one replica, as in `unclip.serve.replicas`
GAIN = 1.8  # times as many pictures a second in batches of AT_ONCE as alone
STEPS = 30  # of a picture
ALONE = 1.0  # seconds of a picture that is drawn alone
REPLICAS = (1, 10, 1000)
LOADS = (0.5, 0.8, 0.95, 1.2)  # shares of what the replicas can draw
SLEEP, SLEEPS = 0.1, 4  # of a task that is measured
SERVER_SECONDS = 0.02  # of the server for a job, where it was not measured


@dataclass(frozen=True)
class Waited:
    """The results of a run; times in seconds from a job's arrival to its end."""

    replicas: int
    load: float
    offered: float
    drawn: float
    mean: float
    median: float
    p95: float


@dataclass
class _Replica:
    waiting: deque[int] = field(default_factory=deque)
    active: dict[int, int] = field(default_factory=dict)  # steps that are left, by job

    @property
    def count(self) -> int:
        return len(self.waiting) + len(self.active)


def simulated(
    arrivals: Sequence[float],
    replicas: int,
    *,
    step: Callable[[int], float],
    steps: int,
    together: int = AT_ONCE,
    server: float = 0.0,
    seed: int = 0,
) -> list[float]:
    """Seconds from each job's arrival to its end.

    Args:
        arrivals: when, in seconds, ascending.
        replicas: how many.
        step: seconds of a step of so many pictures.
        steps: of a picture.
        together: jobs that a replica takes a step further at once.
        server: seconds of the server for a job, one after the other.
        seed: of the router's choices.
    """
    chance, nodes = random.Random(seed), [_Replica() for _ in range(replicas)]
    queue: deque[int] = deque()
    ends = [0.0] * len(arrivals)
    events: list[tuple[float, int, int]] = []  # when, of a job's coming or a replica's step, which
    free = 0.0
    for job, arrived in enumerate(arrivals):
        free = max(free, arrived) + server
        events.append((free, 0, job))
    heapq.heapify(events)

    def begin(number: int, now: float) -> None:
        node = nodes[number]
        while node.waiting and len(node.active) < together:
            node.active[node.waiting.popleft()] = steps
        if node.active:
            heapq.heappush(events, (now + step(len(node.active)), 1, number))

    def give(job: int, number: int, now: float) -> None:
        idle = not nodes[number].active
        nodes[number].waiting.append(job)
        if idle:
            begin(number, now)

    while events:
        now, kind, which = heapq.heappop(events)
        if kind == 0:
            two = chance.sample(range(replicas), min(2, replicas))
            number = min(two, key=lambda one: nodes[one].count)
            if queue or nodes[number].count >= AT_ONCE:
                queue.append(which)
            else:
                give(which, number, now)
            continue
        node = nodes[which]
        for job in list(node.active):
            node.active[job] -= 1
            if not node.active[job]:
                del node.active[job]
                ends[job] = now
        while queue and node.count < AT_ONCE:
            node.waiting.append(queue.popleft())
        begin(which, now)
    return [end - arrived for end, arrived in zip(ends, arrivals, strict=True)]


def arrivals_of(rate: float, jobs: int, seed: int) -> list[float]:
    """When jobs arrive that come independently of each other, so many a second."""
    chance, now, found = random.Random(seed), 0.0, []
    for _ in range(jobs):
        now += chance.expovariate(rate)
        found.append(now)
    return found


def told(arrivals: Sequence[float], waited: Sequence[float], replicas: int, load: float) -> Waited:
    span = max(arrived + seconds for arrived, seconds in zip(arrivals, waited, strict=True)) - arrivals[0]
    ordered = sorted(waited)
    return Waited(
        replicas=replicas,
        load=load,
        offered=round(len(arrivals) / (arrivals[-1] - arrivals[0]), 3),
        drawn=round(len(arrivals) / span, 3),
        mean=round(statistics.fmean(waited), 3),
        median=round(statistics.median(waited), 3),
        p95=round(ordered[round(0.95 * (len(ordered) - 1))], 3),
    )


def batched(rows: int) -> float:
    """Seconds of a step of so many pictures: one alone takes `ALONE` / `STEPS`, `AT_ONCE` give `GAIN`."""
    slope = (AT_ONCE / GAIN - 1) / (AT_ONCE - 1)
    return ALONE / STEPS * (1 + slope * (rows - 1))


def forecast(server: float, jobs: int) -> list[dict[str, Any]]:
    """Throughput of so many replicas, by load, with one server before them and with as many as are needed."""
    rows = []
    for replicas in REPLICAS:
        for load in LOADS:
            rate = load * replicas * GAIN / ALONE
            count = min(max(jobs, 20 * replicas), 40_000)
            arrivals = arrivals_of(rate, count, seed=replicas)
            for seconds, what in ((server, "one"), (0.0, "enough")):
                waited = simulated(arrivals, replicas, step=batched, steps=STEPS, server=seconds)
                rows.append({"servers": what, **asdict(told(arrivals, waited, replicas, load))})
    return rows


# --- what it is checked against ---


def asleep(model: Any) -> Iterator[Any]:
    """A task that takes the time of a replica and no core."""
    from unclip.drawing import Event

    for number in range(SLEEPS):
        time.sleep(SLEEP)
        yield Event("decoder", number + 1, SLEEPS, SLEEP)


def measured(worker: Any, bundle: str, arrivals: Sequence[float]) -> tuple[list[float], float]:
    """Seconds from when each task should arrive to its end, and the server's processor seconds for one."""
    from unclip.serve.worker import Task

    waited = [0.0] * len(arrivals)
    left = threading.Semaphore(0)
    used, began = time.process_time(), time.perf_counter()

    def end(number: int, outcome: Any) -> None:
        if isinstance(outcome, Exception):
            raise outcome
        waited[number] = time.perf_counter() - began - arrivals[number]
        left.release()

    for number, arrived in enumerate(arrivals):
        time.sleep(max(0.0, began + arrived - time.perf_counter()))
        worker.submit(Task(bundle, asleep, end=partial(end, number)))
    for _ in arrivals:
        left.acquire()
    return waited, (time.process_time() - used) / len(arrivals)


def checks(counts: Sequence[int], load: float, jobs: int) -> list[dict[str, Any]]:
    """Runs of sleeping tasks beside the simulation of the same arrivals."""
    from unclip.serve.cluster import HERE, Size, settle

    settle(HERE)
    import ray

    from unclip.serve.models import Models
    from unclip.serve.replicas import Replicas

    # this file is no module that a replica could import
    ray.cloudpickle.register_pickle_by_value(__import__("__main__"))
    make = partial(Models.of, [None], device="cpu")
    rows = []
    for replicas in counts:
        models = make()
        worker = Replicas(models, lambda *batch: None, make=make, size=Size(replicas))
        worker.start()
        while worker.running < replicas:
            time.sleep(0.5)
        measured(worker, models.first, arrivals_of(2 * replicas, 4 * replicas, seed=9))  # routes are known
        rate = load * replicas / (SLEEP * SLEEPS)
        arrivals = arrivals_of(rate, jobs * replicas, seed=replicas)
        found, processor = measured(worker, models.first, arrivals)
        expected = simulated(arrivals, replicas, step=lambda rows: SLEEP, steps=SLEEPS, together=1)
        rows.append(
            {
                "measured": asdict(told(arrivals, found, replicas, load)),
                "simulated": asdict(told(arrivals, expected, replicas, load)),
                "server_processor_seconds_a_job": round(processor, 4),
                "load_of_the_machine": round(os.getloadavg()[0], 1),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
        worker.stop()
        worker.join()
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="run the replicas as well")
    parser.add_argument("--counts", default="1,2", help="of replicas that are run")
    parser.add_argument("--load", type=float, default=0.7, help="of those")
    parser.add_argument("--jobs", type=int, default=80, help="that are measured for each replica")
    parser.add_argument("--simulate", type=int, default=5000, help="jobs at least, of a simulation")
    parser.add_argument("--result", type=Path, default=RESULT)
    chosen = parser.parse_args(arguments)
    before = json.loads(chosen.result.read_text()) if chosen.result.is_file() else {}
    runs = before.get("checks", [])
    if chosen.measure:
        runs = checks([int(count) for count in chosen.counts.split(",")], chosen.load, chosen.jobs)
    server = max((run["server_processor_seconds_a_job"] for run in runs), default=SERVER_SECONDS)
    result = {
        "assumed": {"gain_of_batches": GAIN, "steps": STEPS, "seconds_alone": ALONE, "at_once": AT_ONCE},
        "server_seconds_a_job": server,
        "checks": runs,
        "forecast": forecast(server, chosen.simulate),
    }
    chosen.result.parent.mkdir(exist_ok=True)
    chosen.result.write_text(json.dumps(result, indent=1) + "\n")
    for row in result["forecast"]:
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
