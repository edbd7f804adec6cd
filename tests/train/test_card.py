"""The promise that card and manifest of a run's bundle are true, and say so where nobody knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from support.tiny_recipe import UNCLIP
from unclip import recipes
from unclip.bundle import Bundle
from unclip.data.corpus import Corpus
from unclip.data.described import Defaults
from unclip.data.prepare.run import build_folder
from unclip.errors import InputError
from unclip.train import card, statements
from unclip.train.log import METRICS
from unclip.train.run import Run
from unclip.train.statements import table_of

CPU = torch.device("cpu")
COMMAND = "unclip train own.toml --data corpus --out runs/mine"


def own(folder: Path, corpus: Path, *settings: str, bundle: str = "") -> Run:
    """A run whose recipe says nothing of its bundle but `bundle`."""
    text = (
        UNCLIP[: UNCLIP.index("[bundle]")] + f"[bundle]\n{bundle}\n" + UNCLIP[UNCLIP.index("[tokenizer]") :]
    )
    (folder / "own.toml").write_text(text)
    return Run(recipes.load(folder / "own.toml", settings), corpus, folder / "mine", CPU, command=COMMAND)


def figures(stage: Path, split: str, pictures: int | None) -> None:
    """Metrics of one evaluation, of so many pictures."""
    stage.mkdir(parents=True)
    about = {} if pictures is None else {"split": split, "of_pictures": pictures}
    lines = [
        {"kind": "train", "step": 2, "seconds": 3600.0, "pictures": 8},
        {"kind": "evaluate", "step": 2, **about, "recall_at_1": 0.25},
    ]
    (stage / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_each_figure_says_of_which_split_and_how_many_pictures_it_is(corpus: Path, tmp_path: Path) -> None:
    """And none of fewer than twenty, or of nobody knows how many, is told."""
    run = own(tmp_path, corpus)
    figures(run.out / "clip", "unseen-pairs", 20)
    figures(run.out / "prior", "unseen-pairs", 19)
    figures(run.out / "decoder", "train", None)
    text = card.write(run, table_of(run), {"clip": 1, "prior": 1, "decoder": 1})
    assert "| clip | 2 | recall at 1 | 0.250 | unseen-pairs | 20 |" in text
    assert text.count("recall at 1") == 1


def test_a_card_without_figures_has_no_table_of_them(corpus: Path, tmp_path: Path) -> None:
    run = own(tmp_path, corpus)
    figures(run.out / "prior", "unseen-pairs", 3)
    text = card.write(run, table_of(run), {"prior": 1})
    assert "| prior | 1 | 2 | 8 | 1.00 |" in text
    assert "## Measured" not in text


def test_every_evaluation_says_of_which_pictures_it_is(run: Path, corpus: Path) -> None:
    held_out = len(Run({}, corpus, run, CPU).held_out)
    for stage in ("clip", "prior", "ar-prior", "layout", "decoder"):
        lines = [json.loads(line) for line in (run / stage / METRICS).read_text().splitlines()]
        found = {(line["split"], line["of_pictures"]) for line in lines if line["kind"] == "evaluate"}
        assert found == {("unseen-pairs", held_out)}


def test_a_bundle_is_called_as_the_folder_of_its_run(corpus: Path, tmp_path: Path) -> None:
    assert table_of(own(tmp_path, corpus)).name == "mine"
    assert table_of(own(tmp_path, corpus, "bundle.name=fruit")).name == "fruit"


def test_licences_are_those_of_the_pictures_and_unknown_stays_unknown(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for k in range(4):
        Image.new("RGB", (40, 40), (60 * k, 10, 10)).save(source / f"{k}.png")
    rows = ["file_name,text,licence", "0.png,a,MIT", "1.png,b,MIT", "2.png,c|d,CC0-1.0", "3.png,e,"]
    (source / "metadata.csv").write_text("\n".join(rows))
    list(build_folder(source, tmp_path / "corpus", defaults=Defaults()))
    run = own(tmp_path, tmp_path / "corpus")
    table = table_of(run)
    assert table.licence == "CC0-1.0, MIT, unknown"
    text = card.write(run, table, {})
    assert "none was given to the weights; the pictures they are of have CC0-1.0, MIT, unknown" in text
    assert "Apache" not in text
    said = own(tmp_path, tmp_path / "corpus", bundle='licence = "MIT"')
    assert "- Licence: MIT, of the weights" in card.write(said, table_of(said), {})


def test_statements_on_one_corpus_are_not_made_of_another(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of the shipped recipes, which are of the pictograms."""
    run = Run(recipes.load("pictograms"), corpus, tmp_path / "mine", CPU)
    table = table_of(run)
    assert (table.name, table.licence, table.limits) == ("mine", "unknown", "")
    assert "pictograms" not in table.data
    assert statements.corpus_name(Corpus(corpus)) == ""
    monkeypatch.setattr(statements, "corpus_name", lambda _: "pictograms")
    assert (table_of(run).licence, table_of(run).limits[:20]) == ("Apache-2.0", "- It draws pictogram")


def test_card_and_manifest_of_a_whole_run_are_true(corpus: Path, tmp_path: Path) -> None:
    """The command stands there as it was typed, and each once where several were."""
    run = own(tmp_path, corpus, "prior.train.steps=2", "clip.train.steps=2")
    out = run.go()
    run.command = COMMAND + " --set clip.train.keep=9"
    run.go()
    bundle = Bundle.load(out / "bundle")
    assert (bundle.name, bundle.manifest.licence) == ("mine", "unknown")
    assert {component.licence for component in bundle.components.values()} == {"unknown"}
    assert bundle.manifest.data == f"{len(Corpus(corpus)):,} captioned pictures of one's own"
    text = (out / "bundle" / "README.md").read_text()
    assert f"```\n{COMMAND}\n{run.command}\n```" in text
    assert text.startswith("# mine\n")
    assert "Nobody has said yet what it cannot do." in text


def test_a_table_of_the_bundle_with_a_slip_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown key 'bundle\.licnce': did you mean 'licence'"):
        own(tmp_path, corpus, bundle='licnce = "MIT"').check()
