"""Measures the content policy: false refusals and misses of the prompt rules, and the picture rules.

    python benchmarks/policy.py prompts CORPUS      # captions, hard cases, unseen terms
    python benchmarks/policy.py meaning CORPUS      # the shipped text tower as a judge
    python benchmarks/policy.py tables              # what docs/policy.md says of the results
    python benchmarks/policy.py pictures CORPUS     # faces, other photographs, our drawings (extra `policy`)

Writes its part of `benchmarks/results/policy.json`, every share with Wilson's interval of 95 %, for
the tables of docs/policy.md. `benchmarks/policy/README.md` says where hard cases and unseen terms come from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unclip.evaluate.statistics import share
from unclip.policy import Policy
from unclip.policy.terms import LANGUAGES

CASES = Path(__file__).parent / "policy"
RESULT = Path(__file__).parent / "results" / "policy.json"
IMAGES = Path(__file__).parent.parent / "docs" / "images"
PRESET = "dalle2"
PHOTOGRAPHS = 100  # of each kind in scikit-image's subset of LFW
DRAWINGS = 200  # of the corpus, held out
CAPTIONS = 700  # of each language, that a text tower is calibrated by
SHARES = (0.005, 0.01, 0.02)  # of harmless texts that it may refuse
ASKED = {"en": "a photo of {}", "ko": "{} 사진", "de": "ein Foto von {}"}  # a person


def counted(values: Sequence[bool]) -> dict[str, Any]:
    """The count of true ones, and their share with its interval."""
    right = np.array(values, bool)
    estimate = share(right, np.arange(len(right)))
    percent = {name: round(100 * getattr(estimate, name), 2) for name in ("value", "low", "high")}
    return {"count": int(right.sum()), "of": len(right), **percent}


def captions(corpus: Path, language: str) -> list[str]:
    """The different captions of a corpus."""
    import pyarrow.parquet as pq

    column = pq.read_table(corpus / "manifest.parquet", columns=["captions"])["captions"]
    return sorted({one for table in column.to_pylist() for one in json.loads(table).get(language, ())})


def harmless(language: str) -> list[str]:
    lines = (CASES / f"harmless-{language}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("# ")]


def looked_at(term: str) -> bool:
    """True of the half of the unseen terms by which the rules may be improved."""
    return hashlib.sha256(term.encode()).digest()[0] % 2 == 0


def prompts(corpus: Path) -> dict[str, Any]:
    policy = Policy.named(PRESET)

    def refused(text: str) -> bool:
        return policy.refusal(text) is not None

    found: dict[str, Any] = {"policy": PRESET, "false refusals": {}, "missed": {}}
    hard: list[bool] = []
    for code in LANGUAGES:
        texts, cases = captions(corpus, code), harmless(code)
        began = time.process_time()
        own = [refused(text) for text in cases]
        hard += own
        row = {"captions": counted([refused(text) for text in texts]), "hard cases": counted(own)}
        seconds = (time.process_time() - began) / (len(texts) + len(cases))
        found["false refusals"][code] = row | {"ms a prompt": round(1000 * seconds, 2)}
        table = tomllib.loads((CASES / f"unseen-{code}.toml").read_text(encoding="utf-8"))
        halves: dict[str, list[bool]] = {"the half that is reported": [], "the half that was looked at": []}
        for category, terms in table.items():
            for term in terms:
                persons = category == "persons"
                missed = not refused(ASKED[code].format(term) if persons else term)
                if looked_at(term):
                    if not persons:
                        halves["the half that was looked at"].append(missed)
                    continue
                if not persons:
                    halves["the half that is reported"].append(missed)
                halves.setdefault(category, []).append(missed)
        found["missed"][code] = {name: counted(values) for name, values in halves.items()}
    found["false refusals"]["all"] = {"hard cases": counted(hard)}
    return found


def meaning(corpus: Path) -> dict[str, Any]:
    """The shipped text tower as a judge, at several shares of captions that it may refuse."""
    import unclip
    from unclip.policy.meaning import Meaning

    model = unclip.load()
    random = np.random.default_rng(0)
    texts = [text for code in LANGUAGES for text in random.choice(captions(corpus, code), 2 * CAPTIONS)]
    hard = [case for code in LANGUAGES for case in harmless(code)]
    policy, unseen, missed = Policy.named(PRESET), list[str](), list[str]()
    for code in LANGUAGES:
        table = tomllib.loads((CASES / f"unseen-{code}.toml").read_text(encoding="utf-8"))
        unseen += [term for name, terms in table.items() if name != "persons" for term in terms]
    missed = [term for term in unseen if policy.refusal(term) is None]
    found: dict[str, Any] = {"model": model.bundle.name, "weights": model.bundle.identity}
    for share_refused in SHARES:
        judge = Meaning.of(model.clip, texts[::2], share_refused)
        sets = {
            "captions": texts[1::2],
            "hard cases": hard,
            "unseen terms": unseen,
            "missed by the lists": missed,
        }
        found[f"{share_refused:g}"] = {
            name: counted([one is not None for one in judge.found(some)]) for name, some in sets.items()
        }
    return found


def pictures(corpus: Path) -> dict[str, Any]:
    from skimage.data import lfw_subset

    from unclip.data.corpus import Corpus
    from unclip.policy.detectors import Faces, Nudity

    pixels = (lfw_subset() * 255).astype(np.uint8)  # (200, 25, 25)
    photographs = [Image.fromarray(one).convert("RGB") for one in pixels]
    held_out = Corpus(corpus, "unseen-pairs")
    # the detector's threshold of flatness was chosen by another two hundred, and by every second face
    chosen = np.linspace(0, len(held_out) - 1, 2 * DRAWINGS + 1).astype(int)[1::2]
    shipped = [Image.open(path).convert("RGB") for path in sorted(IMAGES.iterdir()) if path.suffix != ".svg"]
    sets = {
        "faces of LFW": photographs[:PHOTOGRAPHS],
        "other photographs": photographs[PHOTOGRAPHS:],
        "drawings, held out": [held_out.image(int(index)).convert("RGB") for index in chosen],
        "pictures of docs/images": shipped,
    }
    found: dict[str, Any] = {}
    for rule, detector in (("faces", Faces()), ("nudity", Nudity())):
        began, count = time.perf_counter(), 0
        found[rule] = {}
        for name, images in sets.items():
            found[rule][name] = counted([detector.found(image) for image in images])
            count += len(images)
            print(rule, name, found[rule][name], flush=True)
        found[rule]["seconds a picture"] = round((time.perf_counter() - began) / count, 3)
    return found


def said(row: dict[str, Any], digits: int = 1) -> str:
    """A share as the tables have it."""
    value, low, high = (f"{row[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{row['count']:,} of {row['of']:,}, {value} % ({low}-{high})"


def tables(results: dict[str, Any]) -> Iterator[str]:
    """The rows of the tables of docs/policy.md, a table after the other."""
    languages = {"en": "English", "ko": "Korean", "de": "German"}
    false, missed = results["prompts"]["false refusals"], results["prompts"]["missed"]
    yield "| refused by mistake | captions | hard cases | ms a prompt |"
    for code, name in languages.items():
        row = false[code]
        shares = f"{said(row['captions'], 2)} | {said(row['hard cases'], 2)}"
        yield f"| {name} | {shares} | {row['ms a prompt']:.1f} |"
    yield f"| all | | {said(false['all']['hard cases'], 2)} | |"
    yield "| missed | English | Korean | German |"
    for name in missed["en"]:
        yield f"| {name} | {' | '.join(said(missed[code][name]) for code in languages)} |"
    yield "| may refuse of captions | other captions | hard cases | unseen terms | of those missed |"
    for name, row in results["meaning"].items():
        if isinstance(row, dict):
            yield f"| {100 * float(name):g} % | {' | '.join(map(said, row.values()))} |"
    yield "| found in | realistic faces | nudity |"
    faces, nudity = results["pictures"]["faces"], results["pictures"]["nudity"]
    for name, row in faces.items():
        if isinstance(row, dict):
            yield f"| {name} | {said(row)} | {said(nudity[name])} |"
    yield f"| seconds a picture | {faces['seconds a picture']:.2f} | {nudity['seconds a picture']:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=("prompts", "meaning", "pictures", "tables"))
    parser.add_argument("corpus", type=Path, nargs="?", help="folder that `unclip data` made")
    arguments = parser.parse_args()
    if arguments.part == "tables":
        print("\n".join(tables(json.loads(RESULT.read_text(encoding="utf-8")))))
        return
    part = {"prompts": prompts, "meaning": meaning, "pictures": pictures}[arguments.part]
    known = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    known[arguments.part] = part(arguments.corpus)
    RESULT.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, value in known[arguments.part].items():
        print(name, json.dumps(value, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
