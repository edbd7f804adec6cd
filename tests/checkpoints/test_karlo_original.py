"""Promises of Karlo's own files: the same networks as in Diffusers' layout, tensor for tensor.

The files are made of a random pipeline by the names of kakaobrain/karlo, spelled out here a second time:
query, key and value one head after the other, layers of attention as convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reference import clip as clip_reference
from reference import karlo as reference
from unclip.checkpoints import karlo_diffusers, karlo_original
from unclip.checkpoints.foreign import Conversion, Source
from unclip.errors import CheckpointError
from unclip.models.clip import CLIP
from unclip.tokenizer import CLIP_VOCABULARY

State = dict[str, Tensor]
HEAD = 64
RESIDUALS = {
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.downsamplers.0": "input_blocks.2.0",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "mid_block.resnets.0": "middle_block.0",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
}
ATTENTIONS = {
    "down_blocks.1.attentions.0": "input_blocks.3.1",
    "mid_block.attentions.0": "middle_block.1",
    "up_blocks.0.attentions.0": "output_blocks.0.1",
    "up_blocks.0.attentions.1": "output_blocks.1.1",
}
PARTS = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def _interleaved(*parts: Tensor) -> Tensor:
    """Rows of the first head of each part, then of the second, ..."""
    heads = [part.split(HEAD) for part in parts]
    return torch.cat([head for together in zip(*heads, strict=True) for head in together])


def _unet(theirs: Mapping[str, Tensor], *, attends: bool) -> State:
    names = {
        **RESIDUALS,
        "mid_block.resnets.1": "middle_block.2" if attends else "middle_block.1",
        "up_blocks.0.upsamplers.0": "output_blocks.1.2" if attends else "output_blocks.1.1",
    }
    state = {}
    for p in ("weight", "bias"):
        for old, new in ENDS.items():
            state[f"{new}.{p}"] = theirs[f"{old}.{p}"]
        for block, target in names.items():
            for old, new in PARTS.items():
                if f"{block}.{old}.{p}" in theirs:
                    state[f"{target}.{new}.{p}"] = theirs[f"{block}.{old}.{p}"]
        for block, target in ATTENTIONS.items() if attends else ():
            layers = {name: theirs[f"{block}.{name}.{p}"] for name in ("to_q", "to_k", "to_v", "to_out.0")}
            added = [theirs[f"{block}.{name}.{p}"] for name in ("add_k_proj", "add_v_proj")]
            own = {
                "qkv": _interleaved(layers["to_q"], layers["to_k"], layers["to_v"]),
                "encoder_kv": _interleaved(*added),
                "proj_out": layers["to_out.0"],
            }
            state[f"{target}.norm.{p}"] = theirs[f"{block}.group_norm.{p}"]
            for name, tensor in own.items():
                state[f"{target}.{name}.{p}"] = tensor[..., None] if p == "weight" else tensor
    assert sum(tensor.numel() for tensor in state.values()) == sum(t.numel() for t in theirs.values())
    return state


def _decoder(pipe: Any) -> State:
    projection = pipe.text_proj.state_dict()
    state = _unet(pipe.decoder.state_dict(), attends=True)
    state["cf_param"] = projection["learned_classifier_free_guidance_embeddings"]
    for p in ("weight", "bias"):
        state[f"clip_emb.{p}"] = projection[f"clip_image_embeddings_project_to_time_embeddings.{p}"]
        state[f"text_feat_proj.{p}"] = projection[f"embedding_proj.{p}"]
        state[f"clip_tok_proj.{p}"] = projection[f"clip_extra_context_tokens_proj.{p}"]
        state[f"text_seq_proj.0.{p}"] = projection[f"encoder_hidden_states_proj.{p}"]
        state[f"text_seq_proj.1.{p}"] = projection[f"text_encoder_hidden_states_norm.{p}"]
    return state


def _prior(theirs: Mapping[str, Tensor]) -> State:
    state = {"positional_embedding": theirs["positional_embedding"], "prd_emb": theirs["prd_embedding"]}
    for p in ("weight", "bias"):
        for old, new in {
            "time_embedding.linear_1": "time_embed.0",
            "time_embedding.linear_2": "time_embed.2",
            "proj_in": "clip_img_proj",
            "embedding_proj": "text_emb_proj",
            "encoder_hidden_states_proj": "text_enc_proj",
            "norm_out": "final_ln",
            "proj_to_clip_embeddings": "out_proj",
        }.items():
            state[f"{new}.{p}"] = theirs[f"{old}.{p}"]
        for i in range(2):
            old, new = f"transformer_blocks.{i}", f"transformer.resblocks.{i}"
            qkv = [theirs[f"{old}.attn1.{name}.{p}"] for name in ("to_q", "to_k", "to_v")]
            state[f"{new}.attn.c_qkv.{p}"] = _interleaved(*qkv)
            state[f"{new}.attn.c_proj.{p}"] = theirs[f"{old}.attn1.to_out.0.{p}"]
            state[f"{new}.ln_1.{p}"] = theirs[f"{old}.norm1.{p}"]
            state[f"{new}.ln_2.{p}"] = theirs[f"{old}.norm3.{p}"]
            state[f"{new}.mlp.c_fc.{p}"] = theirs[f"{old}.ff.net.0.proj.{p}"]
            state[f"{new}.mlp.c_proj.{p}"] = theirs[f"{old}.ff.net.2.{p}"]
    return state


def _behind(prefix: str, state: State) -> State:
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return reference.pipeline(tmp_path_factory.mktemp("vocabulary"), reference.BROAD_HEADS)


@pytest.fixture(scope="module")
def published(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as one has it after following Karlo's README."""
    folder = tmp_path_factory.mktemp("karlo")
    theirs = pipe.prior.state_dict()
    upsampler = _behind("model_first_steps", _unet(pipe.super_res_first.state_dict(), attends=False))
    upsampler |= _behind("model_last_step", _unet(pipe.super_res_last.state_dict(), attends=False))
    files: dict[str, State] = {
        "prior-ckpt-step=01000000-of-01000000.ckpt": _behind("model", _prior(theirs)),
        "decoder-ckpt-step=01000000-of-01000000.ckpt": _behind("model", _decoder(pipe)),
        "improved-sr-ckpt-step=1.2M.ckpt": upsampler,
    }
    for name, state in files.items():
        torch.save({"state_dict": state, "global_step": 1}, folder / name)
    torch.save((theirs["clip_mean"][0], theirs["clip_std"][0]), folder / "ViT-L-14_stats.th")
    shapes = clip_reference.text_shapes(
        embedding=reference.EMBEDDING, width=64, layers=1, vocabulary=CLIP_VOCABULARY, context=77
    ) | clip_reference.vit_shapes(embedding=reference.EMBEDDING, size=32, patch=8, width=64, layers=1)
    torch.save(clip_reference.random_state(shapes), folder / "ViT-L-14.pt")
    return folder


@pytest.fixture(scope="module")
def converted(published: Path) -> Conversion:
    source = Source(published)
    assert karlo_original.looks_like(source)
    return karlo_original.FORMAT.read(source)


def test_the_networks_are_those_of_the_other_layout(pipe: Any, converted: Conversion, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "saved")
    expected = karlo_diffusers.FORMAT.read(Source(tmp_path / "saved"))
    for name in ("prior", "decoder", f"upsampler-{reference.LARGE}", f"upsampler-{reference.LARGE}-last"):
        if name == "decoder":
            found: Any = converted.parts[name].source
            other: Any = expected.parts[name].source
            # the sides are in no file of Karlo's own
            assert replace(found.config, image_size=reference.SMALL) == other.config
        ours = converted.parts[name.replace(str(reference.LARGE), "256")].source
        theirs = expected.parts[name].source
        assert isinstance(ours, torch.nn.Module)
        assert isinstance(theirs, torch.nn.Module)
        own, state = ours.state_dict(), theirs.state_dict()
        assert own.keys() == state.keys()
        assert all(torch.equal(own[key], state[key]) for key in state), name


def test_clip_comes_whole_and_the_prior_is_clamped_at_ten(converted: Conversion) -> None:
    assert isinstance(converted.parts["clip"].source, CLIP)
    assert converted.parts["clip"].preprocessing is not None
    sampling = converted.parts["prior"].sampling
    assert sampling is not None
    assert (sampling.limit, sampling.steps, sampling.guidance) == (10.0, 25, 4.0)
    assert "64 and 256 px" in " ".join(converted.notes)


def test_what_is_missing_is_named(published: Path, tmp_path: Path) -> None:
    for path in published.iterdir():
        if "decoder" in path.name or "stats" in path.name:
            continue
        (tmp_path / path.name).hardlink_to(path)
    with pytest.raises(CheckpointError, match=r"needs decoder-ckpt.*, ViT-L-14_stats\.th as well"):
        karlo_original.FORMAT.read(Source(tmp_path))


def test_two_of_a_kind_are_refused(published: Path, tmp_path: Path) -> None:
    for path in published.iterdir():
        (tmp_path / path.name).hardlink_to(path)
    (tmp_path / "again.ckpt").hardlink_to(next(published.glob("prior*")))
    with pytest.raises(CheckpointError, match="both of the kind prior"):
        karlo_original.FORMAT.read(Source(tmp_path))


def test_other_files_are_not_taken_for_karlos(tmp_path: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, tmp_path / "other.ckpt")
    assert not karlo_original.looks_like(Source(tmp_path))
    assert not karlo_original.looks_like(Source(tmp_path / "other.ckpt"))
