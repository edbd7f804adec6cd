"""The promise that the package's files form levels: see docs/architecture.md."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "unclip"
LEVELS = [
    {"config", "runtime", "processes", "errors", "ray_cluster"},
    {"nn", "diffusion", "tokenizer", "images", "colour_profiles", "sheets", "xmp", "languages", "watermark"},
    {"models"},
    {"native", "catalogue", "adapters", "bundle", "manifest", "checkpoints", "data", "recipes"},
    {
        *(
            "model",
            "pipeline",
            "families",
            "stages",
            "drawing",
            "given",
            "naming",
            "styling",
            "translation",
            "manipulate",
            "train",
        ),
        *("keywords", "record", "provenance", "policy"),
        *("embedding", "classify", "photographs", "search", "evaluate", "zero_shot"),
    },
    {"bench", "serve"},
    {"cli", "__main__", "unclip"},  # "unclip" is the package's own __init__
]
STRANGERS = ("nn", "diffusion")  # the two on one level that never import each other
CONSTANTS = {"__version__"}  # any file may ask for these: the package is loaded before its files are


def module_name(path: Path) -> str:
    parts = ["unclip", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str, source: str, known: set[str], is_package: bool = False) -> set[str]:
    """The files of the package that `source` imports anywhere: at its top, in functions, for types only."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[
                    : None if is_package and node.level == 1 else is_package - node.level
                ]
                base = ".".join([*parents, base]).rstrip(".")
            # `from unclip.nn import layers` names a file, `from unclip.nn.layers import Norm` what is in one
            names = [
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base
                for alias in node.names
                if not (base == "unclip" and alias.name in CONSTANTS)
            ]
        else:
            continue
        found |= {name for name in names if name in known}
    return found - {module}


def part(module: str) -> str:
    """The part of the package that a file belongs to: `unclip.nn.layers` is of `nn`."""
    return module.split(".")[1] if "." in module else module


def level(module: str) -> int:
    return next(index for index, parts in enumerate(LEVELS) if part(module) in parts)


GRAPH = {
    module: imports(module, path.read_text(), set(FILES), path.name == "__init__.py")
    for module, path in FILES.items()
}


@pytest.mark.parametrize("module", FILES)
def test_every_file_stands_on_a_level_and_imports_from_none_above(module: str) -> None:
    assert any(part(module) in parts for parts in LEVELS), (
        f"{module} is on no level: add it to docs and LEVELS"
    )
    above = sorted(other for other in GRAPH[module] if level(other) > level(module))
    assert not above, f"{module} (level {level(module)}) imports from above: {above}"


def test_no_file_imports_itself_over_others() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(f"cycle: {' -> '.join(error.args[1])}")


def test_networks_and_diffusion_do_not_know_each_other() -> None:
    for module, others in GRAPH.items():
        if part(module) in STRANGERS:
            assert not {part(other) for other in others} & (set(STRANGERS) - {part(module)}), module


def test_no_file_is_named_for_holding_this_and_that() -> None:
    assert not [
        module for module in FILES if module.split(".")[-1] in ("utils", "util", "helpers", "common", "misc")
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import unclip.nn.layers", {"unclip.nn.layers"}),
        ("from unclip.nn import layers", {"unclip.nn.layers"}),
        ("from unclip.nn.layers import Norm", {"unclip.nn.layers"}),
        ("def f():\n    from unclip.models import clip", {"unclip.models.clip"}),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import unclip.models.clip",
            {"unclip.models.clip"},
        ),
        ("from . import layers", {"unclip.nn.layers"}),
        ("from .layers import Norm", {"unclip.nn.layers"}),
        ("from ..models.clip import CLIP", {"unclip.models.clip"}),
        ("from unclip import __version__, load", {"unclip"}),
        ("from unclip import __version__", set()),
        ("import torch, unclipped", set()),
    ],
)
def test_the_reader_of_imports_sees_every_form(source: str, expected: set[str]) -> None:
    known = {
        "unclip",
        "unclip.nn",
        "unclip.nn.layers",
        "unclip.nn.unet",
        "unclip.models",
        "unclip.models.clip",
    }
    assert imports("unclip.nn.unet", source, known) == expected


def test_the_reader_of_imports_resolves_those_of_a_package() -> None:
    known = {"unclip.nn", "unclip.nn.layers", "unclip.models"}
    assert imports("unclip.nn", "from . import layers\nfrom .. import models", known, is_package=True) == {
        "unclip.nn.layers",
        "unclip.models",
    }
