"""The promise that figures in README and docs are of the result files, and say of which weights they are."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from unclip.bundle import DEFAULT, Bundle

ROOT = Path(__file__).parent.parent
DOCS, RESULTS = ROOT / "docs", ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.glob("*.md") if page.name != "training-log.md")]
BUNDLES = {  # by number: the `weights` that stand for it, and its decoder's file
    row[0]: (re.findall(r"[0-9a-f]{12}", row[1]), row[2])
    for row in re.findall(
        r"^\| (\w+)(?:, which ships)? \| ([^|]*) \| ([0-9a-f]{12}) \|$",
        (DOCS / "evaluation.md").read_text(),
        re.M,
    )
}
CITED = re.compile(r"`(?:benchmarks/results/)?([\w-]+\.json)`")
SHIPPED = list(BUNDLES)[-1]
CLIP = {"7335ffa44f48": "seventh"}  # what result files of CLIP call it


def parts(page: Path) -> Iterator[str]:
    """The sections of a page."""
    yield from re.split(r"^(?=## )", page.read_text(encoding="utf-8"), flags=re.MULTILINE)


def named(value: Any, key: str = "") -> Iterator[str]:
    """The weights that a result file is of, a judge's and the like left out."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name != "judge":
                yield from named(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from named(part)
    elif key in ("weights", "clip") and isinstance(value, str):
        yield value


CITATIONS = sorted(
    {
        (page.name, part.partition("\n")[0], file)
        for page in PAGES
        for part in parts(page)
        for file in CITED.findall(part)
        if (RESULTS / file).is_file()
    }
)


def test_the_last_bundle_of_the_table_is_the_one_that_ships() -> None:
    assert Bundle.load(DEFAULT).component("decoder").sha256[:12] == BUNDLES[SHIPPED][1]


@pytest.mark.parametrize(("page", "head", "file"), CITATIONS)
def test_figures_of_a_result_file_say_of_which_bundle_they_are(page: str, head: str, file: str) -> None:
    (path,) = [path for path in PAGES if path.name == page]
    (part,) = [part for part in parts(path) if part.partition("\n")[0] == head and file in part]
    for weights in named(json.loads((RESULTS / file).read_text(encoding="utf-8"))):
        numbers = [name for name, (known, _) in BUNDLES.items() if weights in known] + [CLIP.get(weights)]
        for number in filter(None, numbers):
            assert number in part, f"{file} is of the {number} bundle: say so in {head!r} of {page}"


def test_every_weights_of_the_pages_are_in_the_table() -> None:
    table = {weights for known, decoder in BUNDLES.values() for weights in (*known, decoder)}
    dalle1 = set(re.findall(r"[0-9a-f]{12}", (DOCS / "evaluation.md").read_text(encoding="utf-8")))
    for page in PAGES:
        told = set(re.findall(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12}\b", page.read_text(encoding="utf-8")))
        assert told <= table | dalle1, page.name


# --- two families side by side ---

ROWS = {  # of the table: which figure, of which captions
    "judge R@1, English": ("judge R@1", "unseen-pairs", "en"),
    "Korean": ("judge R@1", "unseen-pairs", "ko"),
    "German": ("judge R@1", "unseen-pairs", "de"),
    "Frechet distance, drawn / real": ("Frechet distance, drawn / real", "unseen-pairs", "en"),
    "judge R@1, `unseen-concepts`, English": ("judge R@1", "unseen-concepts", "en"),
    "mean distance between pictures of one caption": (
        "mean distance between pictures of one caption",
        "unseen-pairs",
        "en",
    ),
    "memorised, by the judge's features": ("memorised, by judge's features", "unseen-pairs", "en"),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(
    ("column", "file"), [(1, "evaluation-pictograms.json"), (2, "evaluation-dalle1.json")]
)
def test_the_table_of_two_families_is_of_the_shipped_bundles(row: str, column: int, file: str) -> None:
    result = json.loads((RESULTS / file).read_text(encoding="utf-8"))
    if column == 1:
        assert result["bundle"]["weights"] in BUNDLES[SHIPPED][0], f"evaluate the {SHIPPED} bundle"
    name, split, language = ROWS[row]
    (figure,) = [
        one
        for one in result["figures"]
        if (one["name"], one["split"], one["language"]) == (name, split, language)
        and one["variant"] == "drawn"
        and one["section"] == "pictures"
    ]
    (part,) = [part for part in parts(DOCS / "reproduction.md") if part.startswith("## Two families")]
    line = re.findall(rf"^\| {re.escape(row)} \|.*", part, re.MULTILINE)[0]  # of the first table
    said = line.split("|")[1 + column].strip()
    assert said == f"{short(figure['value'])} ({short(figure['low'])}-{short(figure['high'])})"


@pytest.mark.parametrize("file", ["clip-intel-r-xeon-r-processor-2.json", "clip-amd-epyc-2.json"])
def test_the_speed_of_clip_is_that_of_the_processor_that_is_named(file: str) -> None:
    found = json.loads((RESULTS / file).read_text(encoding="utf-8"))["embed"]
    (part,) = [part for part in parts(DOCS / "search.md") if part.startswith("## Speed")]
    own = part.partition(file)[2].partition(".json")[0]
    for name in ("float32", "bfloat16", "packed bfloat16", "open_clip float32", "open_clip bfloat16"):
        assert f"| {math.floor(10 * found[name] + 0.5) / 10:.1f} " in own, name


def short(value: float) -> str:
    return f"{math.floor(100 * value + 0.5) / 100:.2f}".removeprefix("0")


def test_the_readme_draws_each_thing_once() -> None:
    prompts = (ROOT / "benchmarks" / "prompts-readme.txt").read_text(encoding="utf-8").splitlines()
    assert len(prompts) == len(set(prompts)) == 12


@pytest.mark.parametrize("said", ["47 %", "16 at once", "ninth model", "model card", "no photographs"])
def test_the_readme_says_what_to_expect_beside_its_picture(said: str) -> None:
    first = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert said in " ".join(first.split())
