"""Promises of SigLIP's towers: they compute what Google's and open_clip's do.

The reference is transformers' SiglipModel, see `tests/reference/siglip.py`, and open_clip's own code where it
can be imported (it wants torchvision).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reference.siglip import (
    CONTEXT,
    LARGEST_ERROR,
    NAMES,
    PREPROCESS,
    TEXTS,
    TINY,
    drawing,
    in_open_clips_layout,
    model_cfg,
    pictures,
    published,
    read,
    save_vocabulary,
    theirs,
    tiny_timm_models,
)
from support.captions import CAPTIONS
from support.tensors import error
from unclip.checkpoints import clip_siglip
from unclip.checkpoints.foreign import Source
from unclip.checkpoints.formats import guess
from unclip.errors import InputError
from unclip.images import fit
from unclip.models.siglip import Gelu


@pytest.fixture(scope="module", autouse=True)
def small_timm() -> Iterator[None]:
    with tiny_timm_models():
        yield


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vocabulary(tmp_path_factory.mktemp("vocabulary"))


@pytest.mark.parametrize("activation", Gelu)
@pytest.mark.parametrize("projection", [True, False], ids=["projection", "none"])
@torch.no_grad()
def test_both_towers_are_transformers(
    activation: Gelu, projection: bool, vocabulary: Path, tmp_path: Path
) -> None:
    reference = theirs(activation, projection=projection)
    state = in_open_clips_layout(reference, projection=projection)
    path = published(tmp_path / "tiny", state, model_cfg(activation, projection=projection), vocabulary)
    assert [format.name for format in guess(Source(path))] == ["clip-siglip"]
    siglip = read(path)
    model, tokens = siglip.model, siglip.tokenizer.batch(TEXTS, CONTEXT)
    assert tokens.ids.shape == (3, CONTEXT)
    images, normalised = pictures()
    expected = reference(input_ids=tokens.ids, pixel_values=normalised)
    found = model(images, tokens.ids, tokens.mask)
    assert error(found.image, expected.vision_model_output.pooler_output) < LARGEST_ERROR
    assert error(found.text, expected.text_model_output.pooler_output) < LARGEST_ERROR
    sequence = model.encode_text(tokens.ids).sequence
    assert error(sequence, expected.text_model_output.last_hidden_state) < LARGEST_ERROR
    rows, columns = (torch.nn.functional.normalize(side, dim=-1) for side in (found.image, found.text))
    assert found.bias is not None
    assert error(rows @ columns.T * found.scale + found.bias, expected.logits_per_image) < LARGEST_ERROR
    other = next(gelu for gelu in Gelu if gelu is not activation)
    again = read(path, activation=other).model(images, tokens.ids)  # the two GELU are not the same
    assert error(again.image, found.image) > LARGEST_ERROR
    assert error(again.text, found.text) > LARGEST_ERROR


@torch.no_grad()
def test_a_text_means_the_same_however_it_is_padded(vocabulary: Path, tmp_path: Path) -> None:
    state = in_open_clips_layout(theirs(Gelu.EXACT))
    siglip = read(published(tmp_path / "tiny", state, model_cfg(Gelu.EXACT), vocabulary))
    whole = siglip.tokenizer.batch(TEXTS[:1], CONTEXT, full=True)
    short = siglip.tokenizer.batch(TEXTS[:1], CONTEXT)
    assert short.ids.shape[1] < CONTEXT
    count = short.ids.shape[1]
    other = whole.ids.masked_fill(~whole.mask, 0)  # padded as another tokenizer would
    expected = siglip.model.encode_text(whole.ids)
    for ids, mask in ((short.ids, None), (short.ids, short.mask), (other, whole.mask)):
        found = siglip.model.encode_text(ids, mask)
        assert torch.equal(found.embedding, expected.embedding)
        assert torch.equal(found.sequence[:, :count], expected.sequence[:, :count])
    assert not torch.equal(siglip.model.encode_text(other).embedding, expected.embedding)
    with pytest.raises(InputError, match="they must be"):
        siglip.model.encode_text(torch.zeros(1, CONTEXT + 1, dtype=torch.int64))


@pytest.mark.parametrize("activation", Gelu)
@pytest.mark.parametrize("projection", [True, False], ids=["projection", "none"])
@torch.no_grad()
def test_open_clips_own_code_computes_the_same(
    activation: Gelu, projection: bool, vocabulary: Path, tmp_path: Path
) -> None:
    """From the folder that is read, and from what is written of it; pictures by timm, texts from words on."""
    open_clip = pytest.importorskip("open_clip", reason="open_clip wants torchvision", exc_type=ImportError)
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)  # of what open_clip makes before it reads the file

    def tiny(pretrained: bool = False, *, num_classes: int, global_pool: str, **_: Any) -> Any:
        return timm.models.VisionTransformer(
            img_size=TINY.image_size,
            patch_size=TINY.patch,
            embed_dim=TINY.width,
            depth=TINY.layers,
            num_heads=TINY.heads,
            mlp_ratio=TINY.mlp_width / TINY.width,
            act_layer="gelu_tanh" if activation is Gelu.TANH else None,
            class_token=False,
            num_classes=num_classes,
            global_pool=global_pool,
        )

    tiny.__name__, tiny.__module__ = NAMES[activation], "timm.models.vision_transformer"
    timm.models.vision_transformer.__dict__[tiny.__name__] = tiny
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Overwriting")  # of the same name with another projection
        timm.models.register_model(tiny)
    state = in_open_clips_layout(theirs(activation, projection=projection), projection=projection)
    given = published(tmp_path / "given", state, model_cfg(activation, projection=projection), vocabulary)
    siglip = read(given)
    clip_siglip.write(siglip, tmp_path / "written")
    images, normalised = pictures()
    texts = [*TEXTS, *CAPTIONS[:100]]
    for path in (given, tmp_path / "written"):
        model, transform = open_clip.create_model_from_pretrained(f"local-dir:{path}")
        ids = open_clip.get_tokenizer(f"local-dir:{path}")(texts)
        assert torch.equal(ids, siglip.tokenizer.batch(texts, CONTEXT, full=True).ids)
        assert error(siglip.model.encode_image(images), model.encode_image(normalised)) < LARGEST_ERROR
        assert error(siglip.model.encode_text(ids).embedding, model.encode_text(ids)) < LARGEST_ERROR
        assert siglip.model.scale.item() == pytest.approx(model.logit_scale.exp().item())
        seen = fit(drawing(), TINY.image_size, "stretch")
        pixels = torch.from_numpy(np.asarray(seen).copy()).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(PREPROCESS[key]).view(3, 1, 1) for key in ("mean", "std"))
        assert error((pixels - mean) / std, transform(drawing())) < LARGEST_ERROR
