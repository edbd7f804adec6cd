"""Promises of runs that begin with finished weights: they go on from them, and say so."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from support.pictures import holed
from unclip import load, recipes
from unclip.bundle import Bundle
from unclip.data.corpus import Corpus
from unclip.errors import InputError, UnclipError
from unclip.images import resize
from unclip.model import Model
from unclip.models.decoder import FIRST_WEIGHT
from unclip.native import load_model
from unclip.train.encoded import Encoded, embed
from unclip.train.places import Places
from unclip.train.run import Run
from unclip.train.tasks.clip import LockedCLIPTask
from unclip.train.tasks.decoder import DecoderTask


def test_a_finished_decoder_learns_to_fill_in(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    """It begins as the decoder of a bundle, its loss falls, and `edit` uses what it learned by itself."""
    again = Path(shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("decoder", "bundle")))
    text = recipe.read_text().replace(
        "[decoder.model]", f'[decoder]\nstart = "{run / "bundle"}"\n[decoder.model]'
    )
    sizes = text[text.index("[decoder.model]") : text.index("[decoder.diffusion]")]
    other = tmp_path / "inpainting.toml"
    other.write_text(text.replace(sizes, "[decoder.model]\ninpainting = true\n"))  # the rest is the bundle's
    training = Run(recipes.load(other), corpus, again, torch.device("cpu"))
    task = training.task("decoder")
    assert isinstance(task, DecoderTask)
    plain = Bundle.load(run / "bundle").model("decoder", dtype=torch.float32)
    state = task.model.state_dict()
    for name, weight in plain.state_dict().items():
        own = name == FIRST_WEIGHT or name.startswith("layout.")  # the layout is that of the run
        assert own or torch.equal(state[name], weight)

    def loss() -> torch.Tensor:
        batch = task.batch(Places.whole(24, 1))
        return task.loss(task.model, batch, Places.whole(24, 2))[0]

    before, optimiser = loss().item(), torch.optim.Adam(task.model.parameters(), lr=3e-3)
    for _ in range(12):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert loss().item() < 0.9 * before
    seen = task.model.unet.conv_in.weight[:, 3 * task.model.config.patch**2 :]
    assert bool((seen != 0).any())  # they began as zeros
    training.go()
    model = load(again / "bundle")
    assert isinstance(model, Model)
    picture = Image.new("RGB", (64, 64), (200, 30, 40))
    (edited,) = model.edit(picture, holed(64, 64, (0, 0, 64, 32)), "a red circle", seed=1)
    assert (edited.metadata["rounds"], edited.metadata["steps"]) == ("1", "3")  # the recipe's own
    assert np.array_equal(np.asarray(edited.image)[32:], np.asarray(picture)[32:])
    larger = recipes.load(other, ["decoder.model.channels=16"])
    with pytest.raises(InputError, match="channels = 8, the recipe says 16"):
        Run(larger, corpus, again, torch.device("cpu")).task("decoder")


def test_a_finished_decoder_learns_from_augmented_pictures(
    run: Path, corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    """It begins as it was, gets the embeddings of what it sees, and draws without being told anything."""
    again = Path(shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("decoder", "bundle")))
    text = recipe.read_text().replace(
        "[decoder.model]", f'[decoder]\nstart = "{run / "bundle"}"\n[decoder.model]'
    )
    other = tmp_path / "augmented.toml"
    other.write_text(text.replace("[decoder.task]", "[decoder.task]\naugment = 0.2"))
    training = Run(recipes.load(other), corpus, again, torch.device("cpu"))
    task = training.task("decoder")
    assert isinstance(task, DecoderTask)
    assert task.model.augmentation is not None
    plain, state = Bundle.load(run / "bundle").model("decoder", dtype=torch.float32), task.model.state_dict()
    assert all(
        torch.equal(state[name], weight)
        for name, weight in plain.state_dict().items()
        if not name.startswith("layout.")  # that of the run
    )
    batch = task.batch(Places.whole(24, 1))
    assert batch.augmentation is not None
    changed = batch.augmentation.any(dim=1)
    assert 0 < int(changed.sum()) < 24
    embedded = task._embedded(batch.images, batch.embeddings, changed)
    assert torch.equal(embedded[~changed], batch.embeddings[~changed])
    with torch.no_grad():
        seen = task.encoded.clip.encode_image(resize(batch.images, 32)).float()
    torch.testing.assert_close(embedded[changed], F.normalize(seen[changed], dim=1))
    training.go()
    weight = load_model(again / "decoder" / "final" / "ema-0.safetensors").augmentation.weight
    assert bool((weight != 0).any())  # it began as zeros
    model = load(again / "bundle")
    assert isinstance(model, Model)
    (picture,) = model.generate("a red circle", size=64, seed=1)
    assert picture.image.size == (64, 64)
    with pytest.raises(InputError, match=r"augment: got 2.*from 0 to 1"):
        Run(recipes.load(other, ["decoder.task.augment=2"]), corpus, again, torch.device("cpu")).task(
            "decoder"
        )


def test_a_share_of_the_weights_before_is_kept(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    """The bundle gets the mean of what training began with and what it ended with."""
    again = Path(shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("prior", "bundle")))
    other = tmp_path / "kept.toml"
    text = recipe.read_text().replace("[prior.model]", f'[prior]\nstart = "{run / "bundle"}"\n[prior.model]')
    other.write_text(text)
    training = Run(recipes.load(other, ["prior.old_weights=0.25"]), corpus, again, torch.device("cpu"))
    before = {name: w.clone() for name, w in training.task("prior").model.state_dict().items()}
    mixed, after = (
        load_model(path, dtype=torch.float32).state_dict()
        for path in (training.weights("prior"), again / "prior" / "final" / "ema-0.safetensors")
    )
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed
    for name in before:
        expected = 0.25 * before[name] + 0.75 * after[name]
        torch.testing.assert_close(mixed[name], expected.to(mixed[name].dtype))
    training.go()
    assert (
        "prior is the mean of the weights that it began with (0.25)"
        in (again / "bundle" / "README.md").read_text()
    )
    shipped = Bundle.load(again / "bundle").model("prior", dtype=torch.float32).state_dict()
    for name in changed:
        torch.testing.assert_close(shipped[name], mixed[name], atol=1e-2, rtol=1e-2)  # bfloat16
    for wrong in (["prior.old_weights=1.5"], ["prior.old_weights=0.5", "decoder.old_weights=0.5"]):
        with pytest.raises(InputError, match=r"old_weights: got .*between 0 and 1, of the weights of"):
            Run(recipes.load(other, wrong), corpus, again, torch.device("cpu")).go()


def test_stages_begin_with_finished_weights(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    """Those of a bundle or a file; the tokenizer must be theirs."""
    bundle = run / "bundle"
    settings = [
        f"clip.start={bundle}",
        "clip.model.image.patch_dropout=0.5",  # no matter of the weights
        f"prior.start={bundle / 'prior.safetensors'}",
    ]
    again = Path(shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("bundle")))
    training = Run(recipes.load(recipe, settings), corpus, again, torch.device("cpu"))
    for stage in ("clip", "prior"):
        task, found = training.task(stage), Bundle.load(bundle).model(stage, dtype=torch.float32)
        for name, weight in found.state_dict().items():
            assert torch.equal(task.model.state_dict()[name], weight)


def test_the_card_says_what_a_run_began_with(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    """And keeps what the card of that says of its training."""
    settings = [f"prior.start={run / 'bundle'}", "prior.train.steps=4", "bundle.name=again"]
    again = Path(shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("bundle", "prior")))
    folder = Run(recipes.load(recipe, settings), corpus, again, torch.device("cpu")).go() / "bundle"
    card, first = (folder / "README.md").read_text(), Bundle.load(run / "bundle")
    assert f"prior began with weights of the bundle `{first.name}`, {first.identity}." in card
    _, now, before = card.replace("## Trained before", "## Training").split("## Training\n")
    rows = [next(row for row in part.splitlines() if row.startswith("| prior |")) for part in (now, before)]
    assert [row.split(" | ")[2] for row in rows] == ["4", "3"]  # steps


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("clip.model.embedding=12", r"clip\.start: .* has embedding = 16, the recipe says 12"),
        ("layout.start=pictograms", r"layout\.start: layout cannot begin with other weights"),
        ("prior.start=nowhere", r"nowhere"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    run: Path, corpus: Path, recipe: Path, setting: str, message: str
) -> None:
    settings = [f"clip.start={run / 'bundle'}", setting]
    training = Run(recipes.load(recipe, settings), corpus, run, torch.device("cpu"))
    with pytest.raises(UnclipError, match=message):
        training.task(setting.partition(".")[0])


def locked(run: Path, *more: str) -> list[str]:
    """Settings of a recipe whose text encoder learns alone."""
    return [f"clip.start={run / 'bundle'}", "clip.task.locked=true", *more]


def test_a_text_encoder_learns_alone(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    """The image encoder is held, so that what was trained on its embeddings is as good as before."""
    again = Path(shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("clip", "bundle")))
    text = recipe.read_text() + "\n[clip.task]\n"
    (other := tmp_path / "locked.toml").write_text(text)
    training = Run(recipes.load(other, locked(run)), corpus, again, torch.device("cpu"))
    task = training.task("clip")
    assert isinstance(task, LockedCLIPTask)
    embeddings, _, _ = task.pairs(Places.whole(4, 1))
    position = task.pictures.positions(Places.whole(4, 1))
    expected = embed(task.model.eval(), Corpus(corpus).pixels(32)[position])
    torch.testing.assert_close(embeddings, expected)
    before = Bundle.load(run / "bundle").model("clip", dtype=torch.float32).state_dict()
    training.go("clip")
    after = load_model(training.weights("clip"), dtype=torch.float32).state_dict()
    same = {name: torch.equal(before[name], after[name]) for name in before}
    assert all(same[name] for name in before if name.startswith("visual."))
    assert not any(same[name] for name in before if name.startswith("text.") and name.endswith("weight"))
    files = set(again.glob("embeddings-*.npy"))
    Encoded.of(training)
    assert set(again.glob("embeddings-*.npy")) == files  # still those of the pictures


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["clip.task.locked=true"], r"clip\.task\.locked: .* needs clip\.start"),
        (["clip.task.locked=true", "clip.task.pictures={shift=2}"], r"shift 2: .* say 0"),
    ],
)
def test_a_locked_encoder_wants_to_be_finished(
    corpus: Path, recipe: Path, tmp_path: Path, settings: list[str], message: str
) -> None:
    (other := tmp_path / "locked.toml").write_text(recipe.read_text() + "\n[clip.task]\n")
    training = Run(recipes.load(other, settings), corpus, tmp_path / "run", torch.device("cpu"))
    with pytest.raises(InputError, match=message):
        training.task("clip")
