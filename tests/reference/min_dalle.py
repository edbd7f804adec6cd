"""min-dalle 0.4.11 with small random weights, and the files that it reads: the reference for DALL-E mini.

Its encoder, its decoder with its KV cache, its sampling, its detokenizer and its tokenizer. It has constants
for the number of codes (256) and for the detokenizer's widths, which are made small here: see `few_codes` and
`narrow_detokenizer`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn

from unclip.checkpoints import dalle_mini
from unclip.models.code_sampling import CodeSampling


def imported(name: str) -> Any:
    """A module of min-dalle, which switches gradients off and takes all cores when it is imported."""
    gradients, threads = torch.is_grad_enabled(), torch.get_num_threads()
    try:
        return importlib.import_module(name)
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_num_threads(threads)


models = imported("min_dalle.models")
text_tokenizer = imported("min_dalle.text_tokenizer")

WIDTH, HEADS, MLP, LAYERS = 128, 2, 96, 2
CODES = 4  # of a picture, 256 in the published models
ROWS = 2**14  # codes that min-dalle draws from
MERGES = ["r e", "re d", "Ġ a", "Ġ red", "p p", "pp l", "ppl e", "Ġa pple", "b l", "bl u", "_ a", "o r"]


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


@contextmanager
def few_codes() -> Iterator[None]:
    """Within it min-dalle's decoder has `CODES` codes."""
    decoder = imported("min_dalle.models.dalle_bart_decoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "IMAGE_TOKEN_COUNT", CODES)
        yield


def narrow_detokenizer() -> nn.Module:
    """min-dalle's own code with a quarter of its channels: 128 -> 32, 256 -> 64, 512 -> 128."""
    source = inspect.getsource(inspect.getmodule(models.VQGanDetokenizer))
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


def save_vocabulary(folder: Path, suffix: str = "") -> None:
    (folder / f"vocab{suffix}.json").write_text(json.dumps(vocabulary()))
    (folder / f"merges{suffix}.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]))


@dataclass(frozen=True)
class MinDalle:
    """min-dalle's modules with random weights, in evaluation mode, and its tokenizer."""

    encoder: nn.Module
    decoder: Any
    detokenizer: Any
    tokenizer: Any

    @classmethod
    def random(cls) -> Self:
        sizes: dict[str, Any] = {
            "embed_count": WIDTH,
            "attention_head_count": HEADS,
            "glu_embed_count": MLP,
            "layer_count": LAYERS,
            "device": "cpu",
        }
        encoder = models.DalleBartEncoder(text_token_count=64, text_vocab_count=len(vocabulary()), **sizes)
        decoder = models.DalleBartDecoder(image_vocab_count=ROWS, **sizes)
        detokenizer = narrow_detokenizer()
        for seed, module in enumerate((encoder, decoder, detokenizer)):
            randomise(module, seed)
            module.eval().requires_grad_(False)
        return cls(encoder, decoder, detokenizer, text_tokenizer.TextTokenizer(vocabulary(), MERGES))

    def save(self, folder: Path) -> Path:
        """Its files, as its hub repository has them."""
        torch.save(self.encoder.state_dict(), folder / "encoder.pt")
        torch.save(self.decoder.state_dict(), folder / "decoder.pt")
        torch.save(self.detokenizer.state_dict(), folder / "detoker.pt")
        save_vocabulary(folder)
        return folder

    def ids(self, text: str) -> Tensor:
        """The null prompt and the prompt, as min-dalle lays them out, (2, 64)."""
        tokens = self.tokenizer.tokenize(text)
        ids = torch.ones(2, 64, dtype=torch.int64)
        ids[0, :2] = torch.tensor([tokens[0], tokens[-1]])
        ids[1, : len(tokens)] = torch.tensor(tokens)
        return ids

    def codes(self, text: str, seed: int, sampling: CodeSampling) -> Tensor:
        """The loop of `MinDalle.generate_raw_image_stream` for one picture, (CODES,)."""
        ids = self.ids(text)
        state = self.encoder(ids)
        cache = torch.zeros(LAYERS, 4, CODES, WIDTH)
        codes = torch.full((1, CODES + 1), ROWS - 1)
        settings = torch.tensor([sampling.temperature, sampling.top_k or ROWS, sampling.guidance])
        torch.manual_seed(seed)
        for i in range(CODES):
            codes[:, i + 1], cache = self.decoder.sample_tokens(
                settings=settings,
                attention_mask=ids.not_equal(1)[:, None, None, :],
                encoder_state=state,
                attention_state=cache,
                prev_tokens=codes[:, [i]],
                token_index=torch.tensor([i]),
            )
        return codes[0, 1:]

    def decoded(self, codes: Tensor) -> Tensor:
        """The picture of a small grid before `VQGanDetokenizer.forward` clips it, (3, S, S) around [0, 1]."""
        net, side = self.detokenizer, int(len(codes) ** 0.5)
        z = net.embedding(codes).view(1, side, side, -1).permute(0, 3, 1, 2)
        image: Tensor = net.decoder(net.post_quant_conv(z).contiguous())
        return image[0]

    def image(self, codes: Tensor) -> Tensor:
        """`VQGanDetokenizer.forward`, (3, S, S) in [0, 255]."""
        return self.decoded(codes).clip(0, 1) * 255


def without_gains(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor
        for name, tensor in state.items()
        if not (dalle_mini.WITHOUT_GAIN.fullmatch(name) and name.endswith("weight"))
    }
