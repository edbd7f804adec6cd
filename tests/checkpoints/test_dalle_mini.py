"""The promise that DALL-E mini's published files give the pictures of the program that published them.

The reference is min-dalle 0.4.11, a test dependency: see `tests/reference/min_dalle.py`.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unclip
from reference.min_dalle import (
    CODES,
    LAYERS,
    MLP,
    ROWS,
    WIDTH,
    MinDalle,
    few_codes,
    save_vocabulary,
    without_gains,
)
from support.tensors import error
from unclip.bundle import save_bundle
from unclip.checkpoints import dalle_mini, vqgan_taming
from unclip.checkpoints.foreign import Conversion, Source
from unclip.errors import CheckpointError, InputError
from unclip.models.code_sampling import CodeSampling
from unclip.models.dalle_mini import DalleMini
from unclip.models.vqgan import VQGAN, PixelRange
from unclip.runtime import noise_seed

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def theirs() -> Iterator[MinDalle]:
    with few_codes():
        yield MinDalle.random()


@pytest.fixture(scope="module")
def files(theirs: MinDalle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return theirs.save(tmp_path_factory.mktemp("min-dalle"))


@pytest.fixture(scope="module")
def conversion(files: Path) -> Conversion:
    source = Source(files)
    assert dalle_mini.looks_like(source)
    return dalle_mini.FORMAT.read(source)


@pytest.fixture(scope="module")
def ours(conversion: Conversion) -> types.SimpleNamespace:
    parts = {name: part.source for name, part in conversion.parts.items()}
    return types.SimpleNamespace(**parts)


# --- networks ---


def test_the_encoder_reads_as_theirs(ours: types.SimpleNamespace, theirs: MinDalle) -> None:
    ids = theirs.ids("a red apple, blue")
    mask = ids != 1
    assert error(ours.transformer.read(ids, mask)[mask], theirs.encoder(ids)[mask]) <= TOLERANCE


def test_every_step_of_the_decoder_is_theirs(ours: types.SimpleNamespace, theirs: MinDalle) -> None:
    ids = theirs.ids("a red apple")
    mask = ids != 1
    state = theirs.encoder(ids)
    cache = torch.zeros(LAYERS, 4, CODES, WIDTH)
    model: DalleMini = ours.transformer
    writing = model.begin(model.read(ids, mask), mask)
    before = [ROWS - 1, 17, 4711, 16_000]
    for i, code in enumerate(before):
        logits, cache = theirs.decoder(
            attention_mask=mask[:, None, None, :],
            encoder_state=state,
            attention_state=cache,
            prev_tokens=torch.tensor([[code]]),
            token_index=torch.tensor([i]),
        )
        step = model.step(writing, torch.tensor([code, code]) if i else None)
        assert error(step, logits[:, -1, :ROWS]) <= TOLERANCE
    with pytest.raises(InputError, match="make it longer"):
        model.step(writing, torch.tensor([1, 1]))


def test_the_detokenizer_shows_as_theirs(ours: types.SimpleNamespace, theirs: MinDalle) -> None:
    codes = torch.tensor([5, 16_383, 0, 99])
    image = ours.codec.decode(codes.view(1, 2, 2))[0]
    assert error((image + 1) / 2, theirs.decoded(codes)) <= TOLERANCE


# --- whole ---


@pytest.fixture(scope="module")
def drawer(conversion: Conversion, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("bundles") / "mini"
    save_bundle(
        folder,
        name=conversion.name,
        parts=conversion.parts,
        card="# mini\n",
        family=conversion.family,
        dtype=None,
    )
    return unclip.load(folder, device="cpu", precision="float32")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"guidance": 1.0, "top_k": 50, "temperature": 0.7},
        {"guidance": 4.0, "temperature": 1.3, "top_k": ROWS},
    ],
)
def test_a_converted_bundle_draws_min_dalles_picture(
    drawer: Any, theirs: MinDalle, settings: dict[str, float]
) -> None:
    """From the same random numbers: those of the picture's own stream."""
    prompt, seed, index = "a red apple", 3, 1
    used = {"temperature": 1.0, "top_k": 256, "guidance": 16.0} | settings  # min-dalle's own defaults
    sampling = CodeSampling(**used)
    codes = theirs.codes(prompt, noise_seed(seed, index, "codes"), sampling)
    expected = theirs.image(codes)
    picture = drawer.generate(prompt, n=2, seed=seed, size=32, **settings)[index]
    # min-dalle cuts the fraction off, everything here rounds
    difference = np.asarray(picture.image, dtype=float) - expected.movedim(0, -1).numpy()
    assert np.abs(difference).max() <= 0.51
    assert expected.std() > 1


def test_the_conversion_says_what_it_decided(conversion: Conversion) -> None:
    assert (conversion.name, conversion.family) == ("dalle-mini", "dalle-mini")
    assert any("min-dalle 0.4.11" in note for note in conversion.notes)
    assert conversion.parts["transformer"].codes == CodeSampling(top_k=256, guidance=16.0)
    codec = conversion.parts["codec"].source
    assert isinstance(codec, VQGAN)
    assert codec.config.pixels is PixelRange.UNIT
    with pytest.raises(InputError, match="hold no encoder"):
        codec.encode(torch.zeros(1, 3, 32, 32))


# --- files ---


def test_norms_without_gains_have_ones(files: Path, theirs: MinDalle, tmp_path: Path) -> None:
    """The published files lack the gains that training had switched off; min-dalle leaves ones in place."""
    state = theirs.decoder.state_dict()
    assert len(state) - len(without_gains(state)) == 4 * LAYERS + 1
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    for half in ("encoder", "decoder"):
        (tmp_path / f"{half}.pt").unlink()
        torch.save(without_gains(getattr(theirs, half).state_dict()), tmp_path / f"{half}.pt")
    model: Any = dalle_mini.FORMAT.read(Source(tmp_path)).parts["transformer"].source
    assert torch.equal(model.decoder.layers[1].mlp.norm_inner.weight, torch.ones(MLP))
    assert torch.equal(model.decoder.norm_out.weight, torch.ones(WIDTH))
    assert torch.equal(model.decoder.norm_out.bias, state["final_ln.bias"])
    assert not torch.equal(model.decoder.layers[1].norm_out.weight, torch.ones(WIDTH))

    torch.save(state, tmp_path / "decoder.pt")  # some have them, some do not: nobody published that
    with pytest.raises(CheckpointError, match=r"missing encoder\.layers\.0\.norm_in\.weight"):
        dalle_mini.FORMAT.read(Source(tmp_path))


def test_mini_and_mega_in_one_folder_are_told_apart(files: Path, theirs: MinDalle, tmp_path: Path) -> None:
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    torch.save(theirs.encoder.state_dict(), tmp_path / "encoder_mini.pt")
    torch.save(theirs.decoder.state_dict(), tmp_path / "decoder_mini.pt")
    save_vocabulary(tmp_path, "_mini")
    with pytest.raises(CheckpointError, match=r"hand in encoder\.pt or encoder_mini\.pt itself"):
        dalle_mini.FORMAT.read(Source(tmp_path))
    source = Source(tmp_path / "decoder_mini.pt")
    assert dalle_mini.looks_like(source)
    assert set(dalle_mini.FORMAT.read(source).parts) == {"tokenizer", "transformer", "codec"}


def test_what_is_missing_is_named(files: Path, tmp_path: Path, theirs: MinDalle) -> None:
    for path in files.iterdir():
        if path.name not in ("detoker.pt", "merges.txt"):
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(CheckpointError, match="its VQGAN is not there .*detoker.pt"):
        dalle_mini.FORMAT.read(Source(tmp_path))
    elsewhere = {"vqgan": str(files / "detoker.pt")}
    with pytest.raises(InputError, match="merges.txt: not a vocabulary and its merges"):
        dalle_mini.FORMAT.read(Source(tmp_path), elsewhere)
    (tmp_path / "merges.txt").symlink_to(files / "merges.txt")
    assert dalle_mini.FORMAT.read(Source(tmp_path), elsewhere).name == "dalle-mini"
    (tmp_path / "decoder.pt").unlink()
    with pytest.raises(CheckpointError, match=r"no decoder\.pt"):
        dalle_mini.FORMAT.read(Source(tmp_path / "encoder.pt"), elsewhere)
    state = theirs.decoder.state_dict()
    state["layers.0.glu.fc3.weight"] = state.pop("lm_head.weight")
    torch.save(state, tmp_path / "decoder.pt")
    with pytest.raises(
        CheckpointError, match=r"unknown decoder\.layers\.0\.glu\.fc3\.weight; missing decoder\.out"
    ):
        dalle_mini.FORMAT.read(Source(tmp_path), elsewhere)


def test_other_models_do_not_look_like_it(files: Path) -> None:
    assert not dalle_mini.looks_like(Source(files / "detoker.pt"))
    assert vqgan_taming.looks_like(Source(files / "detoker.pt"))
    assert not vqgan_taming.looks_like(Source(files / "encoder.pt"))
