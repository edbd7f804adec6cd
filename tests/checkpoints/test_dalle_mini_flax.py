"""The promise that DALL-E mini's Flax original has the tensors of the files that min-dalle made of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from torch import Tensor

from reference.min_dalle import (
    CODES,
    HEADS,
    LAYERS,
    MLP,
    ROWS,
    WIDTH,
    MinDalle,
    few_codes,
    save_vocabulary,
    vocabulary,
    without_gains,
)
from unclip.checkpoints import dalle_mini
from unclip.checkpoints.foreign import Source
from unclip.errors import CheckpointError
from unclip.models.code_sampling import CodeSampling


@pytest.fixture(scope="module")
def theirs() -> Iterator[MinDalle]:
    with few_codes():
        yield MinDalle.random()


@pytest.fixture(scope="module")
def files(theirs: MinDalle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return theirs.save(tmp_path_factory.mktemp("min-dalle"))


def flax_tree(state: dict[str, Tensor], half: str) -> dict[str, np.ndarray]:
    """One half as dalle-mini keeps it; the inverse of min-dalle's own `load_params.py` of July 2022."""
    back = {ours: theirs for theirs, ours in dalle_mini.FLAX_NAMES.items()}
    stacked: dict[str, list[np.ndarray]] = {}
    flat: dict[str, np.ndarray] = {}
    for name, tensor in without_gains(state).items():
        array = tensor.numpy()
        module, _, end = name.rpartition(".")
        if module.startswith("layers."):
            module = module.split(".", 2)[2]
            for ours, theirs in back.items():
                if module == ours or module.startswith(f"{ours}."):
                    module = theirs + module.removeprefix(ours)
                    break
        if end == "weight":
            end = "embedding" if "embed_" in module else "kernel" if array.ndim == 2 else "scale"
        array = array.T if end == "kernel" else array
        if name.startswith("layers."):
            key = f"model.{half}.layers.FlaxBart{half.title()}Layers.{module}.{end}"
            stacked.setdefault(key, []).append(array)
        elif module == "lm_head":
            flat[f"lm_head.{end}"] = array
        elif module == "final_ln":
            flat[f"model.{half}.layers.final_ln.{end}"] = array
        else:
            flat[f"model.{half}.{module}.{end}"] = array
    return flat | {key: np.stack(arrays) for key, arrays in stacked.items()}


def flax_vqgan(state: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """A VQGAN as vqgan-jax keeps it."""
    flat = {}
    for name, tensor in state.items():
        parts = name.split(".")
        joined = []
        for part in parts:
            if part.isdigit():
                joined[-1] += f"_{part}"
            else:
                joined.append(part)
        array = tensor.numpy()
        if name == "embedding.weight":
            joined = ["quantize", "embedding", "embedding"]
        elif joined[-1] == "weight":
            joined[-1] = "scale" if array.ndim == 1 else "kernel"
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        flat[".".join(joined)] = array
    return flat


def save_msgpack(path: Path, flat: dict[str, np.ndarray]) -> None:
    """Nested dictionaries of arrays as `flax.serialization` writes them."""
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *parents, last = name.split(".")
        table = tree
        for parent in parents:
            table = table.setdefault(parent, {})
        content = msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True)
        table[last] = msgpack.ExtType(1, content)
    path.write_bytes(msgpack.packb(tree, use_bin_type=True))


@pytest.fixture(scope="module")
def flax_files(theirs: MinDalle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flax") / "mini-1"
    (folder.parent / "vqgan").mkdir(parents=True)
    folder.mkdir()
    halves = {half: getattr(theirs, half).state_dict() for half in ("encoder", "decoder")}
    flat = {name: array for half, state in halves.items() for name, array in flax_tree(state, half).items()}
    save_msgpack(folder / "flax_model.msgpack", flat)
    save_msgpack(folder.parent / "vqgan" / "flax_model.msgpack", flax_vqgan(theirs.detokenizer.state_dict()))
    save_vocabulary(folder)
    config = {
        "model_type": "dallebart",
        "d_model": WIDTH,
        "encoder_layers": LAYERS,
        "decoder_layers": LAYERS,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": MLP,
        "decoder_ffn_dim": MLP,
        "encoder_vocab_size": len(vocabulary()),
        "image_vocab_size": ROWS,
        "image_length": CODES,
        "max_text_length": 64,
        "decoder_start_token_id": ROWS,
        "ln_positions": "normformer",
        "use_glu": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_the_flax_original_has_the_same_tensors(flax_files: Path, files: Path) -> None:
    """Tensor for tensor those of min-dalle's files, but for the gains, which only random weights have."""
    source = Source(flax_files)
    assert dalle_mini.looks_like(source)
    found = dalle_mini.FORMAT.read(source)
    model: Any = found.parts["transformer"].source
    codec: Any = found.parts["codec"].source
    converted = dalle_mini.FORMAT.read(Source(files)).parts
    ours = {name: part.source.state_dict() for name, part in converted.items() if name != "tokenizer"}
    gains = {name for name, tensor in model.state_dict().items() if bool((tensor == 1).all())}
    assert len(gains) == (3 * LAYERS + 1) + (4 * LAYERS + 1)
    for name, tensor in model.state_dict().items():
        assert name in gains or torch.equal(tensor, ours["transformer"][name]), name
    for name, tensor in codec.state_dict().items():
        assert torch.equal(tensor, ours["codec"][name]), name
    assert model.config.start == ROWS
    assert codec.config.norm_epsilon == 1e-6
    assert found.parts["transformer"].codes == CodeSampling(guidance=10.0)


def test_another_architecture_is_refused_by_name(flax_files: Path, tmp_path: Path) -> None:
    for path in flax_files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    config = json.loads((flax_files / "config.json").read_text())
    (tmp_path / "config.json").unlink()
    for key, value in {"ln_positions": "swinv2", "use_cosine_attention": True, "decoder_layers": 3}.items():
        (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
        with pytest.raises(CheckpointError, match=f"its config says {key} {value!r}"):
            dalle_mini.FORMAT.read(Source(tmp_path), {"vqgan": str(flax_files.parent / "vqgan")})
