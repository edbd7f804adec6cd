"""The promise that DALL-E mini's published files give the pictures of the program that published them.

The reference is min-dalle 0.4.11, a test dependency, with small random weights: its encoder, its decoder with
its KV cache, its sampling, its detokenizer and its tokenizer. It has constants for the number of codes (256)
and for the detokenizer's widths, which are made small here: see `_few_codes` and `narrow_detokenizer`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unclip
from unclip.bundle import save_bundle
from unclip.checkpoints import dalle_mini, vqgan_taming
from unclip.checkpoints.foreign import Conversion, Source
from unclip.errors import CheckpointError, InputError
from unclip.models.code_sampling import CodeSampling
from unclip.models.dalle_mini import DalleMini
from unclip.models.vqgan import VQGAN, PixelRange
from unclip.runtime import noise_seed
from unclip.tokenizer import DalleMiniTokenizer


def imported(name: str) -> Any:
    """A module of min-dalle, which switches gradients off and takes all cores when it is imported."""
    gradients, threads = torch.is_grad_enabled(), torch.get_num_threads()
    try:
        return importlib.import_module(name)
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_num_threads(threads)


reference = imported("min_dalle.models")
text_tokenizer = imported("min_dalle.text_tokenizer")

WIDTH, HEADS, MLP, LAYERS = 128, 2, 96, 2
CODES = 4  # of a picture, 256 in the published models
ROWS = 2**14  # codes that min-dalle draws from
TOLERANCE = 1e-4
MERGES = ["r e", "re d", "Ġ a", "Ġ red", "p p", "pp l", "ppl e", "Ġa pple", "b l", "bl u", "_ a", "o r"]
TEXTS = [
    "a red apple",
    "  Red   APPLE, blue? ",
    "",
    "naïve 사과 red",
    "apple\tred\napple",
    "<s> red </s>",
    "red apple " * 40,
    "🍎 apple",
    "👨‍👩‍👧 ❤️ red",
]


def randomise(module: nn.Module, seed: int) -> None:
    """Every parameter, norms and biases too, so that none can be left out unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.copy_(0.2 * noise + (name.endswith("weight")))
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
        for name, parameter in module.named_parameters():
            if "embed" in name and parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))


@pytest.fixture(autouse=True, scope="module")
def _few_codes() -> Iterator[None]:
    decoder = imported("min_dalle.models.dalle_bart_decoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "IMAGE_TOKEN_COUNT", CODES)
        yield


def narrow_detokenizer() -> nn.Module:
    """min-dalle's own code with a quarter of its channels: 128 -> 32, 256 -> 64, 512 -> 128."""
    source = inspect.getsource(inspect.getmodule(reference.VQGanDetokenizer))
    source = source.replace("2 ** 7", "2 ** 5").replace("2 ** 9", "2 ** 7")
    source = re.sub(
        r"(ResnetBlock|UpsampleBlock)\((\d), (\d)",
        lambda found: f"{found[1]}({int(found[2]) - 2}, {int(found[3]) - 2}",
        source,
    )
    module: dict[str, Any] = {}
    exec(compile(source, "vqgan_detokenizer", "exec"), module)
    net: nn.Module = module["VQGanDetokenizer"]()
    return net


def vocabulary() -> dict[str, int]:
    words = ["<s>", "<pad>", "</s>", "<unk>", "Ġ", *map(chr, range(0x21, 0x7F))]
    return {word: i for i, word in enumerate([*words, *(merge.replace(" ", "") for merge in MERGES)])}


@pytest.fixture(scope="module")
def theirs() -> types.SimpleNamespace:
    """min-dalle's modules with random weights, in evaluation mode."""
    sizes: dict[str, Any] = {
        "embed_count": WIDTH,
        "attention_head_count": HEADS,
        "glu_embed_count": MLP,
        "layer_count": LAYERS,
        "device": "cpu",
    }
    words = len(vocabulary())
    encoder = reference.DalleBartEncoder(text_token_count=64, text_vocab_count=words, **sizes)
    decoder = reference.DalleBartDecoder(image_vocab_count=ROWS, **sizes)
    detokenizer = narrow_detokenizer()
    for seed, module in enumerate((encoder, decoder, detokenizer)):
        randomise(module, seed)
        module.eval().requires_grad_(False)
    tokenizer = text_tokenizer.TextTokenizer(vocabulary(), MERGES)
    return types.SimpleNamespace(
        encoder=encoder, decoder=decoder, detokenizer=detokenizer, tokenizer=tokenizer
    )


def save_files(folder: Path, theirs: types.SimpleNamespace, suffix: str = "") -> Path:
    """min-dalle's files, as its hub repository has them."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(theirs.encoder.state_dict(), folder / f"encoder{suffix}.pt")
    torch.save(theirs.decoder.state_dict(), folder / f"decoder{suffix}.pt")
    torch.save(theirs.detokenizer.state_dict(), folder / "detoker.pt")
    save_vocabulary(folder, suffix)
    return folder


def save_vocabulary(folder: Path, suffix: str = "") -> None:
    (folder / f"vocab{suffix}.json").write_text(json.dumps(vocabulary()))
    (folder / f"merges{suffix}.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]))


@pytest.fixture(scope="module")
def files(theirs: types.SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_files(tmp_path_factory.mktemp("min-dalle"), theirs)


@pytest.fixture(scope="module")
def conversion(files: Path) -> Conversion:
    source = Source(files)
    assert dalle_mini.looks_like(source)
    return dalle_mini.FORMAT.read(source)


@pytest.fixture(scope="module")
def ours(conversion: Conversion) -> types.SimpleNamespace:
    parts = {name: part.source for name, part in conversion.parts.items()}
    return types.SimpleNamespace(**parts)


def prompt_ids(tokenizer: Any, text: str) -> Tensor:
    """The null prompt and the prompt, as min-dalle lays them out, (2, 64)."""
    tokens = tokenizer.tokenize(text)
    ids = torch.ones(2, 64, dtype=torch.int64)
    ids[0, :2] = torch.tensor([tokens[0], tokens[-1]])
    ids[1, : len(tokens)] = torch.tensor(tokens)
    return ids


def their_codes(theirs: types.SimpleNamespace, text: str, seed: int, sampling: CodeSampling) -> Tensor:
    """The loop of `MinDalle.generate_raw_image_stream` for one picture, (CODES,)."""
    ids = prompt_ids(theirs.tokenizer, text)
    state = theirs.encoder(ids)
    cache = torch.zeros(LAYERS, 4, CODES, WIDTH)
    codes = torch.full((1, CODES + 1), ROWS - 1)
    settings = torch.tensor([sampling.temperature, sampling.top_k or ROWS, sampling.guidance])
    torch.manual_seed(seed)
    for i in range(CODES):
        codes[:, i + 1], cache = theirs.decoder.sample_tokens(
            settings=settings,
            attention_mask=ids.not_equal(1)[:, None, None, :],
            encoder_state=state,
            attention_state=cache,
            prev_tokens=codes[:, [i]],
            token_index=torch.tensor([i]),
        )
    return codes[0, 1:]


def their_image(theirs: types.SimpleNamespace, codes: Tensor) -> Tensor:
    """`VQGanDetokenizer.forward` on a small grid, (3, S, S) in [0, 255]."""
    net, side = theirs.detokenizer, int(len(codes) ** 0.5)
    z = net.embedding(codes).view(1, side, side, -1).permute(0, 3, 1, 2)
    image: Tensor = net.decoder(net.post_quant_conv(z).contiguous())
    return image[0].clip(0, 1) * 255


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


# --- tokenizer ---


@pytest.mark.parametrize("text", TEXTS)
def test_texts_become_min_dalles_tokens(
    ours: types.SimpleNamespace, theirs: types.SimpleNamespace, text: str
) -> None:
    tokens = theirs.tokenizer.tokenize(text)
    assert [0, *ours.tokenizer.encode(text), 2] == tokens


def test_a_long_prompt_keeps_its_end_token_and_says_what_is_left_out(ours: types.SimpleNamespace) -> None:
    """min-dalle cuts the end token off and has the last word in its null prompt; dalle-mini does not."""
    tokens = ours.tokenizer.batch(["red apple " * 40], 64)
    assert tokens.ids.shape == (1, 64)
    assert tokens.ids[0, -1] == ours.tokenizer.end
    assert tokens.truncated[0] is not None
    assert tokens.truncated[0].endswith("red apple")


def test_a_tokenizer_survives_being_saved(ours: types.SimpleNamespace, tmp_path: Path) -> None:
    ours.tokenizer.save(tmp_path / "tokenizer.json")
    again = DalleMiniTokenizer.load(tmp_path / "tokenizer.json")
    assert again.encode("a red apple, blue <s>") == ours.tokenizer.encode("a red apple, blue <s>")


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(InputError, match="token <s> has id 1 and must have 0"):
        DalleMiniTokenizer.load(tmp_path)
    with pytest.raises(InputError, match="not a vocabulary and its merges"):
        DalleMiniTokenizer.load(tmp_path / "..")


# --- networks ---


def test_the_encoder_reads_as_theirs(ours: types.SimpleNamespace, theirs: types.SimpleNamespace) -> None:
    ids = prompt_ids(theirs.tokenizer, "a red apple, blue")
    mask = ids != 1
    assert relative(ours.transformer.read(ids, mask)[mask], theirs.encoder(ids)[mask]) <= TOLERANCE


def test_every_step_of_the_decoder_is_theirs(
    ours: types.SimpleNamespace, theirs: types.SimpleNamespace
) -> None:
    ids = prompt_ids(theirs.tokenizer, "a red apple")
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
        assert relative(step, logits[:, -1, :ROWS]) <= TOLERANCE
    with pytest.raises(InputError, match="make it longer"):
        model.step(writing, torch.tensor([1, 1]))


def test_the_detokenizer_shows_as_theirs(ours: types.SimpleNamespace, theirs: types.SimpleNamespace) -> None:
    codes = torch.tensor([5, 16_383, 0, 99])
    image = ours.codec.decode(codes.view(1, 2, 2))[0]
    net = theirs.detokenizer
    z = net.embedding(codes).view(1, 2, 2, -1).permute(0, 3, 1, 2)
    assert relative((image + 1) / 2, net.decoder(net.post_quant_conv(z))[0]) <= TOLERANCE


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
    drawer: Any, theirs: types.SimpleNamespace, settings: dict[str, float]
) -> None:
    """From the same random numbers: those of the picture's own stream."""
    prompt, seed, index = "a red apple", 3, 1
    used = {"temperature": 1.0, "top_k": 256, "guidance": 16.0} | settings  # min-dalle's own defaults
    sampling = CodeSampling(**used)
    codes = their_codes(theirs, prompt, noise_seed(seed, index, "codes"), sampling)
    expected = their_image(theirs, codes)
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


def without_gains(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor
        for name, tensor in state.items()
        if not (dalle_mini.WITHOUT_GAIN.fullmatch(name) and name.endswith("weight"))
    }


def test_norms_without_gains_have_ones(files: Path, theirs: types.SimpleNamespace, tmp_path: Path) -> None:
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


def test_mini_and_mega_in_one_folder_are_told_apart(
    files: Path, theirs: types.SimpleNamespace, tmp_path: Path
) -> None:
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


def test_what_is_missing_is_named(files: Path, tmp_path: Path, theirs: types.SimpleNamespace) -> None:
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


# --- Flax ---


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
def flax_files(theirs: types.SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def test_the_flax_original_has_the_same_tensors(flax_files: Path, ours: types.SimpleNamespace) -> None:
    """Tensor for tensor those of min-dalle's files, but for the gains, which only random weights have."""
    source = Source(flax_files)
    assert dalle_mini.looks_like(source)
    found = dalle_mini.FORMAT.read(source)
    model: Any = found.parts["transformer"].source
    codec: Any = found.parts["codec"].source
    gains = {name for name, tensor in model.state_dict().items() if bool((tensor == 1).all())}
    assert len(gains) == (3 * LAYERS + 1) + (4 * LAYERS + 1)
    for name, tensor in model.state_dict().items():
        assert name in gains or torch.equal(tensor, ours.transformer.state_dict()[name]), name
    for name, tensor in codec.state_dict().items():
        assert torch.equal(tensor, ours.codec.state_dict()[name]), name
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


def test_other_models_do_not_look_like_it(files: Path) -> None:
    assert not dalle_mini.looks_like(Source(files / "detoker.pt"))
    assert vqgan_taming.looks_like(Source(files / "detoker.pt"))
    assert not vqgan_taming.looks_like(Source(files / "encoder.pt"))
