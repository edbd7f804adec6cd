from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from support.tiny_recipe import UNCLIP, draw_shapes
from unclip import recipes
from unclip.data.prepare.run import build_folder
from unclip.train.run import Run


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Sums in the same order everywhere: what bit equality is about is the loop, not the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)  # pictures of other tests are compared with those of other processes


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    draw_shapes(folder / "shapes")
    for _ in build_folder(folder / "shapes", folder / "corpus", large=3):
        pass
    return folder / "corpus"


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(UNCLIP)
    return path


@pytest.fixture(scope="session")
def run(corpus: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run. Do not change it."""
    out = tmp_path_factory.mktemp("run")
    return Run(recipes.load(recipe), corpus, out, torch.device("cpu")).go()
