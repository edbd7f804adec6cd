"""The promise that all that a recipe and a corpus get wrong is said before the first step of any stage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from support.tiny_recipe import UNCLIP, every_stage
from unclip import recipes
from unclip.data.corpus import Corpus
from unclip.data.records import MANIFEST_FILE, Split
from unclip.errors import BundleError, CheckpointError, DataError, InputError, UnclipWarning
from unclip.train.run import Run

CPU = torch.device("cpu")
# A setting of a recipe of all stages, and what is said of it.
WRONG = {
    "decoder.train.bacth=3": r"unknown key 'decoder\.train\.bacth': did you mean 'batch'",
    "decoder.trian={steps=3}": r"unknown key 'decoder\.trian': did you mean 'train'",
    "decoder.model.chanels=8": r"decoder\.model\.chanels.*did you mean 'channels'",
    "decoder.task.pictures={sorces={}}": r"decoder\.task\.pictures\.sorces.*did you mean 'sources'",
    "decoder.task.pictures={shift=-1}": r"shift: got -1",
    "decoder.task.pictures={languages={en=0}}": r"language shares .* are not usable",
    "decoder.task.pictures={sources={folder=0}}": r"leave no picture",
    "decoder.task.pictures={sources={folder=-1}}": r"factor of source 'folder' is -1",
    "decoder.task.text_drop=1.5": r"text_drop: got 1\.5",
    "decoder.model.channels='many'": r"decoder\.model\.channels: got 'many', expected int",
    "decoder.model.channels=1000000000": r"decoder\.model\.channels: got 1000000000, a network has 0 to",
    "decoder.model.embedding=5": r"decoder\.model\.embedding: got 5, but 16 follows",
    "decoder.diffusion.steps=0": r"decoder\.diffusion\.steps: got 0, allowed is 1 to",
    "decoder.sampling.steps='fast1001'": r"decoder\.diffusion or decoder\.sampling",
    "decoder.sampling.guidance=1e9": r"decoder\.sampling\.guidance: got 1000000000\.0, allowed is",
    "decoder.sampling.sampler=dim": r"unknown sampler 'dim'",
    "decoder.train.batch=1000000": r"decoder\.train\.batch: got 1000000, allowed is up to",
    "decoder.train.ema=[nan]": r"decoder\.train\.ema\[0\]: got nan",
    "decoder.start='nowhere.safetensors'": r"nowhere\.safetensors: no such weight file",
    "decoder.start=nowhere": r"no bundle 'nowhere'",
    "decoder.start=7": r"decoder\.start: got 7, expected str",
    "decoder.weights=ema-1": r"decoder\.weights: got 'ema-1', allowed are raw, ema-0",
    "decoder.old_weights=0.5": r"decoder\.old_weights: got 0\.5, allowed is a share",
    "decoder=3": r"decoder: got 3, expected a table",
    "layout.diffusion={schedule='cosine'}": r"layout\.diffusion: layout has no noise levels",
    "layout.sampling={steps=3}": r"layout\.sampling: .* does not draw by diffusion",
    "layout.start=pictograms": r"layout cannot begin with other weights",
    "upsampler-256.model.high_size=512": r"upsampler-256\.model\.high_size: got 512",
    "upsampler-256.model.patch=24": r"upsampler-256\.model: 64 pixels a side in patches of 24",
    "upsampler-256.model.channels=3": r"upsampler-256\.model: .*3 channels of time",
    "decoder.model.patch=7": r"decoder\.model: layout: got 8 cells a side",
    "decoder.model.image_size=7": r"decoder\.model: patch 8: choose from 1 to image_size, which is 7",
    "decoder.model.patch=0": r"decoder\.model: patch 0: choose from 1",
    "upsampler-256.model.low_size=0": r"upsampler-256\.model\.low_size: got 0",
    "glide.model.widths=[8, 8, 8, 8, 8]": r"glide\.model: 16 pixels",
    "upsampler-1024.task.crop=255": r"upsampler-1024\.task\.crop: got 255, allowed is a multiple of 4",
    "upsampler-256.bundle=nowhere": r"upsampler-256: bundle = 'nowhere' says all of it",
    "tokenizer.vocabulary=3": r"vocabulary 3: choose from 259",
    "tokenizer.vocabulary=10e30": r"tokenizer\.vocabulary: got 1e\+31, expected int",
    "clip.task={contrast='siglip'}": r"logit_bias",
    "clip.task={locked=true}": r"clip\.task\.locked",
    "clip.model.text.vocabulary=7": r"clip\.model\.text\.vocabulary: got 7, but 300 follows",
    "clip.model.image.heads=3": r"clip\.model",
    "ar-prior.model.components=4": r"ar-prior\.model\.components follows",
    "vqvae.task.size=33": r"size 33",
    "adm.model.low_size=8": r"low_size: got 8",
    "description=3": r"description: got 3",
}


def check(corpus: Path, out: Path, *settings: str, only: str | None = None) -> str:
    return Run(every_stage(*settings), corpus, out, CPU).check(only)


@pytest.mark.parametrize("setting", WRONG)
def test_a_mistake_in_any_stage_is_said_before_the_first_trains(
    setting: str, corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises((InputError, BundleError, CheckpointError), match=WRONG[setting]):
        Run(every_stage(setting), corpus, tmp_path / "run", CPU).go()
    assert not (tmp_path / "run").exists()


def test_a_slip_in_a_key_is_said_before_what_a_corpus_lacks(corpus: Path, tmp_path: Path) -> None:
    settings = ["classifier.task.pictures.by=subgroup", "decoder.train.bacth=3"]
    with pytest.raises(InputError, match="did you mean 'batch'"):
        check(corpus, tmp_path, *settings)


def recipe(folder: Path, text: str) -> dict[str, Any]:
    (folder / "own.toml").write_text(text)
    return recipes.load(folder / "own.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[decoder.train]", "[decodr.train]", "unknown key 'decodr' in the recipe: did you mean 'decoder'"),
        ('name = "tiny"', 'nmae = "tiny"', r"unknown key 'bundle\.nmae': did you mean 'name'"),
        ('name = "tiny"', "name = 3", r"bundle\.name: got 3, expected str"),
        ('family = "unclip"', 'family = "unclop"', "unknown family 'unclop'"),
        ('family = "unclip"', 'family = "dalle1"', "the component transformer is missing"),
        ('family = "unclip"', "", "a bundle and no family"),
        ("[tokenizer]\nvocabulary = 300\n", "", "read by a tokenizer, and the recipe has none"),
    ],
)
def test_a_recipe_with_a_mistake_at_its_top_is_refused(
    old: str, new: str, said: str, corpus: Path, tmp_path: Path
) -> None:
    assert old in UNCLIP
    with pytest.raises(InputError, match=said):
        Run(recipe(tmp_path, UNCLIP.replace(old, new)), corpus, tmp_path / "run", CPU).check()


def test_a_stage_whose_needs_the_recipe_lacks_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"prior is trained on the result of a stage clip"):
        check(corpus, tmp_path, "clip=false", "vqvae=false", "dalle1=false")


def test_a_setting_leaves_a_stage_out(corpus: Path, tmp_path: Path) -> None:
    assert "upsampler-1024" not in check(corpus, tmp_path, "upsampler-1024=false")


@pytest.mark.parametrize("name", [name for name in recipes.names() if name not in ("dalle1", "dalle2")])
def test_shipped_recipes_pass_their_check_but_for_what_the_corpus_lacks(
    name: str, corpus: Path, tmp_path: Path
) -> None:
    """Emoji groups, and styles enough for a supervised classifier."""
    settings = {
        "pictograms-adm": ["adm.task.pictures.by=concept", "classifier.task.pictures.by=concept"],
        "supervised": ["supervised.task.styles=1"],
    }
    with pytest.warns(UnclipWarning, match="larger than the corpus"):
        text = Run(recipes.load(name, settings.get(name, [])), corpus, tmp_path, CPU).check()
    assert "in all:" in text


def test_the_wrong_kind_of_weights_to_begin_with_is_refused(run: Path, corpus: Path, tmp_path: Path) -> None:
    """Before anything is trained, by what it holds."""
    weights = {stage: run / stage / "final" / "raw.safetensors" for stage in ("clip", "prior", "decoder")}
    for stage, taken in (("decoder", "clip"), ("clip", "prior"), ("prior", "decoder")):
        with pytest.raises(InputError, match=rf"{stage}\.start: .* holds a"):
            check(corpus, tmp_path, f"{stage}.start={weights[taken]}")
    with pytest.raises(InputError, match=r"clip\.start: .* has .*width"):
        check(corpus, tmp_path, f"clip.start={weights['clip']}", "clip.model.text.width=32")
    assert "in all" in check(corpus, tmp_path, *(f"{stage}.start={path}" for stage, path in weights.items()))


def test_a_part_that_belongs_to_another_clip_is_refused(run: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the prior of tiny belongs to its own tokenizer, and this recipe"):
        check(corpus, tmp_path, f"prior={{bundle='{run / 'bundle'}'}}")
    taken = [f"{stage}={{bundle='{run / 'bundle'}'}}" for stage in ("tokenizer", "clip", "prior")]
    assert "taken from the bundle tiny" in check(corpus, tmp_path, *taken)


def test_stages_that_are_not_wanted_are_checked_for_their_keys_alone(corpus: Path, tmp_path: Path) -> None:
    assert "clip" in check(corpus, tmp_path, "decoder.start=nowhere", only="clip")
    with pytest.raises(InputError, match="bacth"):
        check(corpus, tmp_path, "decoder.train.bacth=3", only="clip")


# --- the corpus


@pytest.fixture
def own(corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus, tmp_path / "corpus"))


def rewrite(corpus: Path, table: pa.Table) -> None:
    pq.write_table(table, corpus / MANIFEST_FILE)


def test_a_corpus_without_a_column_is_refused(own: Path, tmp_path: Path) -> None:
    rewrite(own, pq.read_table(own / MANIFEST_FILE).drop_columns(["captions"]))
    with pytest.raises(DataError, match="no column 'captions'"):
        check(own, tmp_path / "run")


def test_an_empty_corpus_is_refused(own: Path, tmp_path: Path) -> None:
    rewrite(own, pq.read_table(own / MANIFEST_FILE, filters=[("split", "=", Split.UNSEEN_PAIRS)]))
    with pytest.raises(DataError, match="has no picture in its split train"):
        check(own, tmp_path / "run")


def test_a_corpus_whose_pictures_are_gone_or_cut_is_refused(own: Path, tmp_path: Path) -> None:
    (shard,) = own.glob("train-*.tar")
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged or missing"):
        check(own, tmp_path / "run")
    shard.unlink()
    with pytest.raises(DataError, match="damaged or missing"):
        check(own, tmp_path / "run")


def test_a_corpus_without_large_pictures_is_refused_where_they_are_learned_from(
    own: Path, tmp_path: Path
) -> None:
    table = pq.read_table(own / MANIFEST_FILE)
    index = table.column_names.index("large")
    rewrite(own, table.set_column(index, "large", pa.array([False] * len(table))))
    with pytest.raises(InputError, match=r"upsampler-1024 learns from .* --set upsampler-1024=false"):
        check(own, tmp_path / "run")
    assert "in all" in check(own, tmp_path / "run", "upsampler-1024=false")
    assert "in all" in check(own, tmp_path / "run", only="clip")


# --- what is said at the start


def test_the_start_lists_stages_with_steps_views_and_time(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(every_stage("clip.train.steps=30", "clip.train.log_steps=10"), corpus, tmp_path, CPU)
    run.go("clip")
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"{len(Corpus(corpus))} pictures to learn from; figures are of ")
    assert said[1].split() == ["stage", "steps", "batch", "views", "a", "picture", "time"]
    assert said[2].split() == ["tokenizer", "to", "be", "made"]
    views = f"{30 * 8 / len(Corpus(corpus)):.1f}"
    assert said[3].split() == ["clip", "30", "8", views, "said", "after", "10", "steps"]
    assert said[4] == "in all: known when each stage has taken its first steps"
    assert sum(line.startswith("clip: about 0:00:0") for line in said) == 1
    longer = Run(every_stage("clip.train.steps=60"), corpus, tmp_path, CPU).check("clip").splitlines()
    assert longer[3].split()[4:9] == ["goes", "on", "from", "step", "30,"]
    assert longer[4].startswith("in all: about 0:0")


def test_a_batch_that_exceeds_the_corpus_is_warned_of(corpus: Path, tmp_path: Path) -> None:
    count = len(Corpus(corpus))
    with pytest.warns(UnclipWarning, match=rf"clip 64 of {count} pictures.*--set clip\.train\.batch=16"):
        Run(every_stage("clip.train.batch=64"), corpus, tmp_path, CPU).go("clip")
