"""The promise that docs/architecture.md is true: files, names, families and papers are those of the code."""

from __future__ import annotations

import ast
import re
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest

from test_layering import LEVELS
from unclip import recipes
from unclip.checkpoints.formats import formats
from unclip.drawing import Job, Options
from unclip.manifest import FAMILIES
from unclip.pipeline import Pipeline

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "unclip"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WALK = 'The walk: from `unclip generate "a cat"` to pixels'

CODE = re.compile(r"`([^`\n]+)`")
PLACE = re.compile(r"([\w./-]*(?:/|\.(?:py|toml|md|typed)))(?::([\w.]+))?")
NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")
NUMBER = re.compile(r"(?<![\d.])\d{4}\.\d{5}(?!\d)")
LINK = re.compile(r"\[(\d{4}\.\d{5})\]\(https://arxiv\.org/abs/\1\)")


def section(title: str) -> str:
    """The text below a headline, up to the next one."""
    _, found, rest = PAGE.partition(f"\n## {title}\n")
    assert found, f"docs/architecture.md has no section {title!r}"
    return rest.partition("\n## ")[0]


def rows(title: str, columns: int) -> list[list[str]]:
    """The rows of the tables with so many columns that a section has, without their heads."""
    tables: list[list[list[str]]] = [[]]
    for line in section(title).splitlines():
        if line.startswith("|"):
            tables[-1].append([cell.strip() for cell in line.strip().strip("|").split("|")])
        else:
            tables.append([])
    return [row for table in tables for row in table[2:] if len(row) == columns]


def codes(text: str) -> list[str]:
    return CODE.findall(text)


def places(text: str) -> list[tuple[str, str]]:
    """The files and folders that a text names, each with the name in it, or none."""
    found = (PLACE.fullmatch(code) for code in codes(text))
    return [(match[1], match[2] or "") for match in found if match]


def path(place: str) -> Path:
    """Where a file that the page names lies: below the package, or below the repository."""
    return PACKAGE / place if (PACKAGE / place).exists() else ROOT / place


@cache
def names(file: Path) -> frozenset[str]:
    """What a file defines: `function`, `Class`, `CONSTANT`, `Class.member`."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        found |= defined(node)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{member}" for below in node.body for member in defined(below)}
    return frozenset(found)


def defined(node: ast.stmt) -> set[str]:
    """The names that one statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    leaves = (name for target in targets if target for name in ast.walk(target))
    return {name.id for name in leaves if isinstance(name, ast.Name)}


TEXTS = {  # of the package, that can cite a paper
    str(file.relative_to(PACKAGE)): file.read_text(encoding="utf-8")
    for suffix in ("py", "toml", "md")
    for file in PACKAGE.rglob(f"*.{suffix}")
}


# --- what is named is there ---


@pytest.mark.parametrize("place", sorted({place for place, _ in places(PAGE)}))
def test_every_file_that_the_page_names_is_there(place: str) -> None:
    assert path(place).is_dir() if place.endswith("/") else path(place).is_file()


@pytest.mark.parametrize(("place", "name"), sorted({pair for pair in places(PAGE) if pair[1]}))
def test_every_name_in_a_file_is_defined_there(place: str, name: str) -> None:
    assert name in names(path(place)), f"{place} defines no {name}"


def test_every_name_of_the_walk_is_defined_in_a_file_that_it_names() -> None:
    walk = section(WALK)
    files = [path(place) for place, _ in places(walk) if place.endswith(".py")]
    known = {name for file in files for name in names(file)}
    known |= {name.rpartition(".")[2] for name in known}
    told = {code for code in codes(walk) if NAME.fullmatch(code) and not PLACE.fullmatch(code)}
    assert told <= known, f"defined in none of the walk's files: {sorted(told - known)}"


def test_the_walk_opens_at_most_four_files() -> None:
    opened = re.findall(r"^\d+\. \*\*`([^`:]+)", section(WALK), re.MULTILINE)
    assert opened
    assert len(opened) <= 4
    assert PAGE.index(WALK) == PAGE.index("\n## ") + len("\n## "), "the walk comes first"


# --- the map ---


def test_the_map_shows_every_folder_and_every_file_at_the_top() -> None:
    shown = [place for row in rows("Levels", 3) for place, _ in places(row[1])]
    there = {
        f"{item.name}/" if item.is_dir() else item.name
        for item in PACKAGE.iterdir()
        if item.name != "__pycache__"
    }
    assert sorted(shown) == sorted(there)


def test_the_map_has_the_levels_that_imports_keep_to() -> None:
    level = ""
    for named, files, _ in rows("Levels", 3):
        level = named or level
        for place, _ in places(files):
            part = "unclip" if place == "__init__.py" else place.removesuffix("/").removesuffix(".py")
            if place.endswith(".py") or list((PACKAGE / place).glob("*.py")):
                assert part in LEVELS[int(level.removeprefix("L"))], f"{place} is not of {level}"


# --- families ---

FAMILY_ROWS = {codes(row[0])[0]: row for row in rows("Families", 6)}


def test_every_family_has_a_row_with_the_file_that_draws() -> None:
    assert set(FAMILY_ROWS) == set(FAMILIES)
    for name, kin in FAMILIES.items():
        module = kin.draws.partition(":")[0]
        file = module.removeprefix("unclip.").replace(".", "/") + ".py"
        assert [place for place, _ in places(FAMILY_ROWS[name][1])] == ([file] if module else [])


@pytest.mark.parametrize("name", sorted(FAMILY_ROWS))
def test_a_family_imports_the_stages_of_its_row(name: str) -> None:
    for place, _ in places(FAMILY_ROWS[name][2]):
        module = "unclip." + place.removesuffix(".py").replace("/", ".")
        (drawn_by,) = [file for file, _ in places(FAMILY_ROWS[name][1])]
        assert f"from {module} import" in TEXTS[drawn_by]


@pytest.mark.parametrize("bundle", ["pictograms", "pictograms-dalle1"])
def test_a_shipped_bundle_goes_through_the_stages_of_its_family_in_order(bundle: str) -> None:
    pipeline = Pipeline.load(bundle)
    stages = pipeline.family.stages(Options(size=max(pipeline.sizes)), [Job("a cat", 0, 0)])
    passed = [
        (type(stage).__module__.removeprefix("unclip.").replace(".", "/") + ".py", type(stage).__name__)
        for stage in stages
    ]
    assert [place for place, _ in groupby(passed)] == places(FAMILY_ROWS[pipeline.bundle.family][2])


def test_every_format_and_every_recipe_stands_with_its_family() -> None:
    for name, row in FAMILY_ROWS.items():
        assert sorted(codes(row[4])) == sorted(one.name for one in formats().values() if one.family == name)
        family = {recipe for recipe in recipes.names() if recipes.load(recipe).get("family") == name}
        assert sorted(codes(row[5])) == sorted(family)
    without = {recipe for recipe in recipes.names() if "family" not in recipes.load(recipe)}
    assert without <= set(codes(section("Families")))


# --- papers ---

PAPERS = rows("Papers", 3)
BY_NAME = rows("Papers", 4)


def number_of(paper: str) -> str:
    """The number of a paper's cell, which is a link to it."""
    link = LINK.fullmatch(paper)
    assert link, f"{paper}: write [NUMBER](https://arxiv.org/abs/NUMBER)"
    return link[1]


def labels(place: str) -> list[str]:
    """The numbers of sections and equations behind a place: "(Eq. 12 and 16)" has two."""
    cited = re.search(r"\((.+)\)", place)
    return [piece.split()[-1] for piece in cited[1].split(" and ")] if cited else []


def test_the_papers_are_those_that_the_package_cites() -> None:
    cited = {number for text in TEXTS.values() for number in NUMBER.findall(text)}
    assert [number_of(paper) for paper, _, _ in PAPERS] == sorted(cited)


@pytest.mark.parametrize(("paper", "where"), [(paper, where) for paper, _, where in PAPERS])
def test_a_paper_is_cited_where_the_table_says(paper: str, where: str) -> None:
    number = number_of(paper)
    for place in where.split("; "):
        ((file, _),) = places(place)
        lines = TEXTS[file].splitlines()
        near = [" ".join(lines[max(0, at - 1) : at + 2]) for at, line in enumerate(lines) if number in line]
        assert near, f"{file} does not cite {number}"
        words = {word.strip(".") for text in near for word in re.findall(r"[\w.]+", text)}
        assert set(labels(place)) <= words, f"{file} cites other parts of {number}"


@pytest.mark.parametrize(("name", "paper", "where"), [(row[0], row[1], row[3]) for row in BY_NAME])
def test_a_paper_without_a_number_is_called_by_its_name(name: str, paper: str, where: str) -> None:
    assert not [file for file, text in TEXTS.items() if number_of(paper) in text], "put it with the others"
    ((file, _),) = places(where)
    assert name in TEXTS[file]
