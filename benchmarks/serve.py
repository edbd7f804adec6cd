"""`unclip serve` under load, beside the same pictures drawn in Python: `python benchmarks/serve.py`.

In one run, turn by turn, so that a machine that grows slower does so for all: 16 clients over HTTP,
`generate` with the same pictures in one call and the same marked files made of them ("call"), without files
("drawn"), each one after the other too, and the same clients at a peer, the usual server with a lock a
request (`serve_peer.py`: our own model, since a pipeline of diffusers of like cost is not to be had). Then
ten times as many clients as are let in; random cancels, by call and by going away, beside a mate; kill -9 at
random moments. Counted are broken promises: there must be none.

    python benchmarks/serve.py                    the whole, about 40 minutes on two cores
    python benchmarks/serve.py --quick            every part, short, as a trial of the script
    python benchmarks/serve.py --only soak        an hour of everything at once; --seconds 600 for less

Writes what it has found into `benchmarks/results/serve.json` after each part, beside the other parts' last
figures, with --quick nothing; --out names another file. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import socket
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
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from unclip.processes import cores
from unclip.runtime import processor_name

PROMPTS = Path(__file__).parent / "prompts.txt"
CLIENTS = 16
READY = "unclip: ready on "
GENERATIONS, JOBS = "/v1/images/generations", "/v1/unclip/jobs"
VARIATIONS = "/v1/images/variations"
PATIENCE = 900.0
RESULT = Path(__file__).parent / "results" / "serve.json"
PEER = Path(__file__).parent / "serve_peer.py"
PARTS = ("throughput", "overload", "cancels", "crashes")
SOAK_CLIENTS = 6


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


@contextmanager
def peer(model: str | None) -> Iterator[str]:
    """The address of the usual server."""
    command = [sys.executable, str(PEER), *([] if model is None else [model])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
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


def throughput(model: str | None, rounds: int, repeats: int, count: int) -> dict[str, Any]:
    import unclip

    prompts = [line for line in PROMPTS.read_text().splitlines() if line.strip()][:count]
    direct = unclip.load(model)
    options = () if model is None else ("--model", model)
    kinds = ("http", "call", "drawn", "http-single", "call-single", "drawn-single", "peer")
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    waits: dict[str, list[float]] = {"http": [], "http-single": [], "peer": []}
    with (
        tempfile.TemporaryDirectory() as name,
        server(Path(name), *options) as running,
        peer(model) as other,
    ):
        ready = running.memory("VmRSS")
        with (
            running.client() as client,
            httpx2.Client(base_url=other, timeout=PATIENCE) as at_peer,
            ThreadPoolExecutor(count) as clients,
        ):

            def one_client(asked: httpx2.Client, number: int, turn: int) -> list[float]:
                return [drawn(asked, prompts[number], rounds * turn + one) for one in range(rounds)]

            def together(asked: httpx2.Client, turn: int) -> list[float]:
                found = clients.map(one_client, [asked] * count, range(count), [turn] * count)
                return [wait for some in found for wait in some]

            def direct_files(prompts: Sequence[str], seed: int, files: bool) -> None:
                """The same in Python: pictures, and of each the file that the server would send."""
                for picture in direct.generate(list(prompts), seed=seed):
                    if files:
                        picture.encode(watermark=True)

            for turn in range(repeats + 1):

                def http(turn: int = turn) -> list[float]:
                    return together(client, turn)

                def peer_http(turn: int = turn) -> list[float]:
                    return together(at_peer, turn)

                def call(turn: int = turn, files: bool = True) -> None:
                    for one in range(rounds):
                        direct_files(prompts, rounds * turn + one, files)

                def http_single(turn: int = turn) -> list[float]:
                    return [drawn(client, prompt, turn) for prompt in prompts]

                def call_single(turn: int = turn, files: bool = True) -> None:
                    for prompt in prompts:
                        direct_files([prompt], turn, files)

                works = {
                    "http": http,
                    "call": call,
                    "drawn": partial(call, files=False),
                    "http-single": http_single,
                    "call-single": call_single,
                    "drawn-single": partial(call_single, files=False),
                    "peer": peer_http,
                }
                for kind, work in works.items():
                    took, found = timed(work)
                    print(f"turn {turn} {kind}: {took:.2f} s", file=sys.stderr, flush=True)
                    if turn == 0:
                        continue  # what is only done once is done now
                    seconds[kind].append(took / (count * (1 if kind.endswith("single") else rounds)))
                    if found is not None:
                        waits[kind] += found
        peak = running.memory("VmHWM")
    each = {kind: statistics.median(found) for kind, found in seconds.items()}
    rate = {kind: 1 / value for kind, value in each.items()}
    gain = (rate["http"] / rate["http-single"] - 1) / (rate["call"] / rate["call-single"] - 1)
    return {
        "clients": count,
        "pictures_per_second": {kind: round(value, 3) for kind, value in rate.items()},
        "http_of_call": round(rate["http"] / rate["call"], 3),
        "http_of_drawn": round(rate["http"] / rate["drawn"], 3),
        "gain_of_batches": {
            "http": round(rate["http"] / rate["http-single"], 3),
            "call": round(rate["call"] / rate["call-single"], 3),
            "share": round(gain, 3),
        },
        "single_overhead": {
            "milliseconds": round(1000 * (each["http-single"] - each["call-single"]), 1),
            "share": round(each["http-single"] / each["call-single"] - 1, 3),
            "milliseconds_over_drawn": round(1000 * (each["http-single"] - each["drawn-single"]), 1),
        },
        "http_of_peer": round(rate["http"] / rate["peer"], 3),
        "p95_seconds": {
            "http": round(quantile(waits["http"], 0.95), 3),
            "peer": round(quantile(waits["peer"], 0.95), 3),
            "serial": round(count * each["http-single"], 3),
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
    bound = ("--most-jobs", str(most))
    with tempfile.TemporaryDirectory() as name, server(Path(name), *options, *bound) as running:
        ends = time.monotonic() + seconds

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
        "memory_mb_of_halves": [max(half) // 10**6 for half in (memory[:middle], memory[middle:]) if half],
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
            gone = number % 2 and leaving(running.address, {**body, "n": 2})
            time.sleep(chance.random() * 0.6)
            if gone:
                gone.close()
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


def leaving(address: str, document: dict[str, Any]) -> socket.socket:
    """A connection on which something was asked for, to be closed."""
    body, (host, port) = json.dumps(document).encode(), address.removeprefix("http://").split(":")
    lines = [f"POST {GENERATIONS} HTTP/1.1", f"host: {host}", "content-type: application/json"]
    connection = socket.create_connection((host, int(port)))
    connection.sendall("\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body)
    return connection


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


def soak(model: str | None, seconds: float) -> dict[str, Any]:
    """Everything at once for long: draws, edits, variations, streams, kept jobs, cancels, clients that go."""
    options = [] if model is None else ["--model", model]
    options += ["--keep-gb", "0.05", "--most-jobs", "32"]
    statuses: Counter[str] = Counter()
    waits: list[tuple[float, float]] = []
    lock = threading.Lock()
    picture = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((64, 64)).save(picture, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
    samples: list[dict[str, float]] = []

    with tempfile.TemporaryDirectory() as name, server(Path(name), *options) as running:
        began = time.monotonic()

        def told(kind: str, answer: httpx2.Response, started: float) -> None:
            with lock:
                statuses[f"{kind} {answer.status_code}"] += 1
                if answer.status_code == 200:
                    waits.append((time.monotonic() - began, time.monotonic() - started))

        def one(client: httpx2.Client, chance: random.Random) -> None:
            prompt, small = chance.choice(PROMPTS.read_text().splitlines()), {"size": "64x64"}
            common = {"seed": chance.randrange(10**6), "response_format": "b64_json"}
            started = time.monotonic()
            match chance.randrange(7):
                case 0:
                    answer = client.post(GENERATIONS, json={"prompt": prompt, **common})
                case 1:
                    count = chance.randint(1, 4)
                    answer = client.post(GENERATIONS, json={"prompt": prompt, "n": count, **common, **small})
                case 2:
                    answer = client.post(VARIATIONS, json={"image": uri, "steps": 5, **common, **small})
                case 3:
                    stream = {"stream": True, "partial_images": 2, "seed": common["seed"], **small}
                    answer = client.post(GENERATIONS, json={"prompt": prompt, **stream})
                case 4:
                    answer = client.post(JOBS, json={"verb": "generate", "prompt": prompt, **small})
                    if answer.status_code == 202:
                        client.get(f"{JOBS}/{answer.json()['id']}/events")
                case 5:
                    answer = client.post(JOBS, json={"verb": "generate", "prompt": prompt, "n": 4})
                    if answer.status_code == 202:
                        time.sleep(chance.random())
                        client.post(f"{JOBS}/{answer.json()['id']}/cancel")
                case _:
                    connection = leaving(running.address, {"prompt": prompt, **common})
                    time.sleep(chance.random())
                    connection.close()
                    return
            told(answer.request.url.path.rpartition("/")[2], answer, started)
            if answer.status_code == 429:
                time.sleep(chance.random())

        def ask(number: int) -> None:
            chance = random.Random(number)
            with running.client() as client:
                while time.monotonic() < began + seconds:
                    try:
                        one(client, chance)
                    except httpx2.HTTPError as error:
                        with lock:
                            statuses[type(error).__name__] += 1

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(SOAK_CLIENTS)]
        for thread in threads:
            thread.start()
        pause = min(60.0, seconds / 10)
        while time.monotonic() < began + seconds:
            time.sleep(pause)
            disk = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
            fresh = [took for at, took in list(waits) if at > time.monotonic() - began - pause]
            samples.append(
                {
                    "minute": round((time.monotonic() - began) / 60, 1),
                    "memory_mb": running.memory("VmRSS") // 10**6,
                    "files_open": len(list(Path(f"/proc/{running.process.pid}/fd").iterdir())),
                    "disk_mb": round(disk / 1e6, 1),
                    "answers": len(fresh),
                    "p95_seconds": round(quantile(fresh, 0.95), 2) if fresh else 0.0,
                }
            )
            print(samples[-1], file=sys.stderr, flush=True)
        for thread in threads:
            thread.join()
        with running.client() as client:
            until = time.monotonic() + PATIENCE
            while "unclip_queue_jobs 0.0" not in client.get("/metrics").text and time.monotonic() < until:
                time.sleep(0.5)
            lines = client.get("/metrics").text.splitlines()
            left = next(line for line in lines if line.startswith("unclip_queue_jobs "))
    log = "" if running.process.returncode == 0 else f"ended with {running.process.returncode}"
    half = len(samples) // 2
    halves = [samples[:half] or samples, samples[half:]]  # of one sample both
    return {
        "seconds": seconds,
        "clients": SOAK_CLIENTS,
        "answers": dict(sorted(statuses.items())),
        "memory_mb_of_halves": [max(sample["memory_mb"] for sample in some) for some in halves],
        "files_open_of_halves": [max(sample["files_open"] for sample in some) for some in halves],
        "jobs_left": float(left.split()[1]),
        "ended": log or "well",
        "samples": samples,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="name or folder of a bundle; by default the shipped one")
    parser.add_argument("--only", choices=[*PARTS, "soak"], help="one part; by default all but the soak")
    parser.add_argument("--quick", action="store_true", help="every part short, and no file")
    parser.add_argument("--rounds", type=int, help="pictures of each client in a turn, 2")
    parser.add_argument("--repeats", type=int, help="turns, 5")
    parser.add_argument("--seconds", type=float, help="of the overload, 120, or of the soak, 3600")
    parser.add_argument("--cancels", type=int, help="how many, 200")
    parser.add_argument("--crashes", type=int, help="how many, 20")
    parser.add_argument("--out", type=Path, help="file of the figures")
    given = parser.parse_args()
    quick, model = given.quick, given.model
    out = given.out or (None if quick else RESULT)

    def size(asked: float | None, usual: float, short: float) -> float:
        return asked if asked is not None else short if quick else usual

    works: dict[str, Callable[[], dict[str, Any]]] = {
        "throughput": lambda: throughput(
            model, int(size(given.rounds, 2, 1)), int(size(given.repeats, 5, 1)), int(size(None, CLIENTS, 2))
        ),
        "overload": lambda: overload(model, size(given.seconds, 120, 6)),
        "cancels": lambda: cancels(model, int(size(given.cancels, 200, 4))),
        "crashes": lambda: crashes(model, int(size(given.crashes, 20, 2))),
        "soak": lambda: soak(model, size(given.seconds, 3600, 10)),
    }
    chosen = [given.only] if given.only else [*PARTS, *(["soak"] if quick else [])]
    found: dict[str, Any] = {}
    for part in chosen:
        found[part] = works[part]()
        if out is not None:
            before = json.loads(out.read_text()) if out.is_file() else {}
            about = {"processor": f"{processor_name()}, {cores()} cores", "bundle": model or "pictograms"}
            out.write_text(json.dumps(before | {part: about | found[part]}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
