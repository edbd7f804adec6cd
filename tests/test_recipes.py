"""Recipes load by name or path, take settings, and hold nothing that the training loop would refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from unclip import recipes
from unclip.config import from_dict
from unclip.errors import InputError
from unclip.train.config import LoopConfig


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(
        'description = "Mine."\n[clip.train]\nsteps = 10\nbatch = 4\n[prior.train]\nsteps = 20\nbatch = 4\n'
    )
    return path


@pytest.mark.parametrize("name", recipes.names())
def test_shipped_recipes_have_a_description_and_train_tables_that_hold(name: str) -> None:
    assert recipes.describe(name)
    tables = dict(recipes.train_tables(recipes.load(name)))
    assert tables
    for key, table in tables.items():
        from_dict(LoopConfig, table, key)


def test_settings_change_keys_that_are_there_and_keys_that_have_a_default(own: Path) -> None:
    recipe = recipes.load(own, ["clip.train.steps=3", "clip.train.ema=[0.5]", "prior.train.schedule=cosine"])
    assert from_dict(LoopConfig, recipe["clip"]["train"]).steps == 3
    assert from_dict(LoopConfig, recipe["clip"]["train"]).ema == (0.5,)
    assert from_dict(LoopConfig, recipe["prior"]["train"]).schedule == "cosine"


@pytest.mark.parametrize("setting", ["clpi.train.steps=3", "stepz=3", "clip.train.steps.more=3"])
def test_a_setting_of_an_unknown_table_is_named(own: Path, setting: str) -> None:
    with pytest.raises(InputError, match=setting.partition("=")[0].split(".")[0]):
        recipes.load(own, [setting])


def test_a_setting_that_is_no_key_is_named_by_its_config(own: Path) -> None:
    recipe = recipes.load(own, ["clip.train.stepz=3"])
    with pytest.raises(InputError, match=r"clip\.train\.stepz.*did you mean 'steps'"):
        from_dict(LoopConfig, recipe["clip"]["train"], "clip.train")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("clip.train.sharpness=0.1", "clip.train.sharpness is now clip.train.sam_rho"),
        ("clip.task.pictures.alike=0.5", "clip.task.pictures.alike is now clip.task.pictures.hard_negatives"),
        ("decoder.task.fed='text'", "decoder.task.fed is now decoder.task.conditioning"),
        ("decoder.keep=0.5", "decoder.keep is now decoder.old_weights"),
    ],
)
def test_a_key_that_was_renamed_is_refused_with_its_new_name(old: str, new: str, own: Path) -> None:
    """In a setting, in a recipe and in a table that a setting gives; `train.keep` stays, a count."""
    with pytest.raises(InputError, match=new):
        recipes.load(own, [old])
    further = own.parent / "further.toml"
    further.write_text(f'base = "own.toml"\n{old}\n')
    with pytest.raises(InputError, match=new):
        recipes.load(further)
    stage, _, rest = old.partition(".")
    with pytest.raises(InputError, match=new):
        recipes.load("pictograms", [f"{stage}={{{rest}}}"])
    assert recipes.load(own, ["clip.train.keep=2"])["clip"]["train"]["keep"] == 2


def test_train_tables_are_found_at_any_depth(own: Path) -> None:
    assert [key for key, _ in recipes.train_tables(recipes.load(own))] == ["clip.train", "prior.train"]
    assert [key for key, _ in recipes.train_tables({"train": {}, "model": {"a": 1}})] == ["train"]


def test_an_unknown_recipe_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown recipe 'pictogram': choose .*pictograms"):
        recipes.load("pictogram")
    with pytest.raises(InputError, match=r"no such file: nowhere/own\.toml"):
        recipes.load("nowhere/own.toml")


def test_a_recipe_has_what_its_base_has_but_for_what_it_says(own: Path) -> None:
    path = own.parent / "further.toml"
    path.write_text(
        'base = "own.toml"\ndescription = "More."\n[clip.train]\nsteps = 99\n[prior]\nbundle = "pictograms"\n'
    )
    assert recipes.load(path) == {
        "description": "More.",
        "clip": {"train": {"steps": 99, "batch": 4}},
        "prior": {"bundle": "pictograms"},
    }
    path.write_text('base = "own.toml"\nprior = false\n')
    assert list(recipes.load(path, ["clip.train.batch=8"])) == ["description", "clip"]


def test_a_recipe_that_is_its_own_base_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text('base = "second.toml"\n')
    second.write_text('base = "first.toml"\n')
    with pytest.raises(InputError, match=r"is its own base, by way of .*first\.toml -> .*second\.toml"):
        recipes.load(first)


def test_the_continued_recipe_begins_with_the_shipped_weights() -> None:
    recipe = recipes.load("pictograms-continued")
    assert {stage: recipe[stage]["start"] for stage in ("clip", "prior", "decoder")} == dict.fromkeys(
        ("clip", "prior", "decoder"), "pictograms"
    )
    assert recipe["tokenizer"] == {"bundle": "pictograms"}
    assert recipe["decoder"]["model"] == recipes.load("pictograms")["decoder"]["model"]
    words = recipes.load("pictograms-words")
    assert words["clip"]["model"] == recipe["clip"]["model"]
    assert (words["clip"]["task"]["locked"], "layout" in words) == (True, False)


def test_the_recipe_for_alike_things_fits_all_that_stands_on_clip_anew() -> None:
    recipe = recipes.load("pictograms-faces")
    assert recipe["clip"]["start"] == "pictograms"
    assert recipe["clip"]["task"]["pictures"]["hard_negatives"] >= 0.5
    assert recipe["clip"]["task"]["pictures"]["kinds"]["smileys-emotion"] > 1
    assert {"prior", "ar-prior", "layout", "decoder"} <= set(
        recipe
    )  # trained, as all of them read its embeddings
    assert recipe["layout"]["model"]["side"] == 2 * (64 // recipe["decoder"]["model"]["patch"])


def test_the_recipe_with_augmentation_changes_the_decoder_alone() -> None:
    recipe = recipes.load("pictograms-augmented")
    taken = {"tokenizer", "clip", "prior", "ar-prior", "upsampler-256", "upsampler-1024"}
    assert all(recipe[stage] == {"bundle": "pictograms"} for stage in taken)
    assert set(recipe) - taken == {"description", "family", "bundle", "decoder"}
    assert (recipe["decoder"]["start"], recipe["decoder"]["task"]["augment"]) == ("pictograms", 0.15)
