"""`unclip serve` under load, beside the same pictures drawn in Python: `python benchmarks/serve.py`.

In one run, turn by turn, so that a machine that grows slower does so for all: 16 clients over HTTP,
`generate` with the same pictures in one call, and both one after the other. Prints JSON. Then, with
`--overload SECONDS`, ten times as many clients as are let in; with `--cancels N`, random cancels beside a
mate; with `--crashes N`, kill -9 at random moments. Counted are broken promises: there must be none.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

PROMPTS = Path(__file__).parent / "prompts.txt"
CLIENTS = 16
READY = "unclip: ready on "
GENERATIONS, JOBS = "/v1/images/generations", "/v1/unclip/jobs"
PATIENCE = 900.0


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    address: str

    def memory(self, name: str) -> int:
        """Bytes, as /proc has them: "VmRSS" now, "VmHWM" at most."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.address, timeout=PATIENCE)


@contextmanager
def server(folder: Path, *options: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "unclip", "serve", "--port", "0", "--data", str(folder), *options]
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr)
    try:
        while True:
            line = next((line for line in log.read_text().splitlines() if line.startswith(READY)), None)
            if line is not None:
                break
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.05)
        yield Server(process, line.removeprefix(READY))
    finally:
        process.terminate()
        process.wait(PATIENCE)


def drawn(client: httpx2.Client, prompt: str, seed: int) -> float:
    """Seconds until a picture is there."""
    started = time.perf_counter()
    body = {"prompt": prompt, "seed": seed, "response_format": "b64_json"}
    answer = client.post(GENERATIONS, json=body)
    answer.raise_for_status()
    assert answer.json()["data"][0]["b64_json"]
    return time.perf_counter() - started


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def throughput(model: str | None, rounds: int, repeats: int) -> dict[str, Any]:
    import unclip

    prompts = [line for line in PROMPTS.read_text().splitlines() if line.strip()][:CLIENTS]
    direct = unclip.load(model)
    options = () if model is None else ("--model", model)
    seconds: dict[str, list[float]] = {name: [] for name in ("http", "call", "http-single", "call-single")}
    waits: dict[str, list[float]] = {"http": [], "http-single": []}
    with tempfile.TemporaryDirectory() as name, server(Path(name), *options) as running:
        ready = running.memory("VmRSS")
        with running.client() as client, ThreadPoolExecutor(CLIENTS) as clients:

            def one_client(number: int, turn: int) -> list[float]:
                return [drawn(client, prompts[number], rounds * turn + one) for one in range(rounds)]

            for turn in range(repeats + 1):

                def http(turn: int = turn) -> list[float]:
                    found = clients.map(one_client, range(CLIENTS), [turn] * CLIENTS)
                    return [wait for some in found for wait in some]

                def call(turn: int = turn) -> None:
                    for one in range(rounds):
                        direct.generate(prompts, seed=rounds * turn + one)

                def http_single(turn: int = turn) -> list[float]:
                    return [drawn(client, prompt, turn) for prompt in prompts]

                def call_single(turn: int = turn) -> None:
                    for prompt in prompts:
                        direct.generate(prompt, seed=turn)

                works = {"http": http, "call": call, "http-single": http_single, "call-single": call_single}
                for kind, work in works.items():
                    took, found = timed(work)
                    print(f"turn {turn} {kind}: {took:.2f} s", file=sys.stderr, flush=True)
                    if turn == 0:
                        continue  # what is only done once is done now
                    seconds[kind].append(took / (CLIENTS * (1 if kind.endswith("single") else rounds)))
                    if found is not None:
                        waits[kind] += found
        peak = running.memory("VmHWM")
    each = {kind: statistics.median(found) for kind, found in seconds.items()}
    rate = {kind: 1 / value for kind, value in each.items()}
    gain = (rate["http"] / rate["http-single"] - 1) / (rate["call"] / rate["call-single"] - 1)
    return {
        "clients": CLIENTS,
        "pictures_per_second": {kind: round(value, 3) for kind, value in rate.items()},
        "http_of_call": round(rate["http"] / rate["call"], 3),
        "gain_of_batches": {
            "http": round(rate["http"] / rate["http-single"], 3),
            "call": round(rate["call"] / rate["call-single"], 3),
            "share": round(gain, 3),
        },
        "single_overhead_ms": round(1000 * (each["http-single"] - each["call-single"]), 1),
        "p95_seconds": {
            "http": round(quantile(waits["http"], 0.95), 3),
            "serial": round(CLIENTS * each["http-single"], 3),
        },
        "memory_mb": {"ready": round(ready / 1e6), "peak": round(peak / 1e6)},
    }


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def overload(model: str | None, seconds: float, most: int = 8) -> dict[str, Any]:
    """Ten times as many clients as are let in, who ask again at once."""
    options = () if model is None else ("--model", model)
    statuses: Counter[str] = Counter()
    waits: list[tuple[float, float]] = []
    memory: list[int] = []
    ends = time.monotonic() + seconds
    bound = ("--most-jobs", str(most))
    with tempfile.TemporaryDirectory() as name, server(Path(name), *options, *bound) as running:

        def ask(number: int) -> None:
            chance = random.Random(number)
            with running.client() as client:
                while time.monotonic() < ends:
                    body = {
                        "prompt": "a red apple",
                        "seed": chance.randrange(10**6),
                        "response_format": "b64_json",
                    }
                    try:
                        answer = client.post(GENERATIONS, json=body)
                    except httpx2.HTTPError as error:
                        statuses[type(error).__name__] += 1
                        continue
                    statuses[str(answer.status_code)] += 1
                    if answer.status_code == 429:
                        time.sleep(chance.random())

        def watch() -> None:
            with running.client() as client:
                while time.monotonic() < ends:
                    memory.append(running.memory("VmRSS"))
                    body = {"verb": "generate", "prompt": "a red apple", "size": "64x64"}
                    answer = client.post(JOBS, json=body)
                    if answer.status_code == 202:
                        job, started = answer.json(), time.monotonic()
                        client.get(f"{JOBS}/{job['id']}/events")
                        waits.append((job["seconds_left"], time.monotonic() - started))
                    time.sleep(0.02)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(10 * most)]
        threads.append(threading.Thread(target=watch))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    middle = len(memory) // 2
    ratios = [took / max(0.05, told) for told, took in waits]
    return {
        "seconds": seconds,
        "answers": dict(statuses),
        "memory_mb": [max(half) // 10**6 for half in (memory[:middle], memory[middle:])],
        "wait_of_estimate": [round(quantile(ratios, share), 2) for share in (0.1, 0.5, 0.9) if ratios],
    }


def pixels(data: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)


def cancels(model: str | None, count: int) -> dict[str, Any]:
    """Jobs that are cancelled, or whose client goes away, beside a mate whose picture must not change."""
    options = () if model is None else ("--model", model)
    chance, worst, share, failed = random.Random(0), 0, 0.0, 0
    body = {"prompt": "a red apple", "response_format": "b64_json"}
    with (
        tempfile.TemporaryDirectory() as name,
        server(Path(name), *options) as running,
        running.client() as client,
        ThreadPoolExecutor(2) as pool,
    ):
        alone = {}
        for seed in range(4):
            answer = client.post(GENERATIONS, json={**body, "seed": seed}).json()
            alone[seed] = pixels(answer["data"][0]["b64_json"])
        for number in range(count):
            seed = number % 4
            mate = pool.submit(client.post, GENERATIONS, json={**body, "seed": seed})
            job = client.post(JOBS, json={"verb": "generate", "prompt": "a red apple", "n": 2}).json()
            time.sleep(chance.random() * 0.6)
            client.post(f"{JOBS}/{job['id']}/cancel")
            print(f"cancel {number}", file=sys.stderr, flush=True)
            answer = mate.result()
            if answer.status_code != 200:
                failed += 1
                continue
            apart = np.abs(pixels(answer.json()["data"][0]["b64_json"]) - alone[seed])
            worst, share = max(worst, int(apart.max())), max(share, float((apart > 0).mean()))
    return {
        "cancels": count,
        "mates_failed": failed,
        "largest_difference": worst,
        "share_of_values": round(share, 5),
    }


def crashes(model: str | None, count: int) -> dict[str, Any]:
    """kill -9 at random moments under load: every job that was accepted is drawn, once."""
    options = () if model is None else ("--model", model)
    chance, accepted = random.Random(0), []
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            with server(Path(name), *options) as running, running.client() as client:
                ends = time.monotonic() + chance.random() * 2
                seed = 0
                while time.monotonic() < ends:
                    seed += 1
                    prompt = f"apple {number} {seed}"
                    try:
                        answer = client.post(
                            JOBS, json={"verb": "generate", "prompt": prompt, "size": "64x64", "seed": 1}
                        )
                    except httpx2.HTTPError:
                        break
                    if answer.status_code == 202:
                        accepted.append(answer.json()["id"])
                    time.sleep(chance.random() * 0.1)
                running.process.kill()
        with server(Path(name), *options) as running, running.client() as client:
            states: Counter[str] = Counter()
            results: Counter[int] = Counter()
            for job in accepted:
                while (found := client.get(f"{JOBS}/{job}").json()).get("state") in ("queued", "running"):
                    time.sleep(0.05)
                states[str(found.get("state", "lost"))] += 1
                results[len(found.get("pictures", ()))] += 1
    return {
        "kills": count,
        "accepted": len(accepted),
        "states": dict(states),
        "pictures_of_a_job": dict(results),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="name or folder of a bundle; by default the shipped one")
    parser.add_argument("--rounds", type=int, default=2, help="pictures of each client in a turn")
    parser.add_argument("--repeats", type=int, default=5, help="turns; 0 leaves the throughput out")
    parser.add_argument("--overload", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--cancels", type=int, default=0, metavar="N")
    parser.add_argument("--crashes", type=int, default=0, metavar="N")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    if given.repeats:
        found["throughput"] = throughput(given.model, given.rounds, given.repeats)
    if given.overload:
        found["overload"] = overload(given.model, given.overload)
    if given.cancels:
        found["cancels"] = cancels(given.model, given.cancels)
    if given.crashes:
        found["crashes"] = crashes(given.model, given.crashes)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
