"""Training steps beside other packages', in one run: the decoder, and CLIP.

    python benchmarks/training_peers.py decoder|clip --out benchmarks/results/training-peers.json

Wants an environment of its own: `pip install torch==2.13.0 dalle2-pytorch denoising-diffusion-pytorch
open_clip_torch tokenizers`, with this checkout's `src` on PYTHONPATH. (Where torchvision's wheel does not fit
torch, `_meta_registrations` in its `__init__.py` is to be commented out; nothing of it is used here.)

A step is forward pass, backward pass and AdamW over random pictures, in bfloat16 where the processor has it.
All packages take turns within every round, on one thread. What counts is processor time, which other
programs on the machine change little; the median of the rounds is kept, and its spread. Beside it stand the
parameters, the products of a step, the share of the rate of one large product that they are done at, and the
bytes that a step holds: weights, gradients, moments, and what the forward pass keeps for the backward pass.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unclip.models.clip import CLIP, CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from unclip.models.clip_loss import clip_loss
from unclip.models.decoder import Decoder, DecoderCondition, DecoderConfig
from unclip.runtime import atomic_path, autocast, pick_precision, processor_name
from unclip.tokenizer import Tokens
from unclip.train.pictures import text_by_length

CPU = torch.device("cpu")
SIDE = 1536  # of the matrices whose product is the peak
GOALS = {"decoder": 1.3, "clip": 1.1}
# the decoders: pictures of 64 px, three levels of two blocks, attention on the last and in the middle
PIXELS, WIDTH, MULTIPLIERS, BLOCKS, EMBEDDING, CONTEXT, HEAD = 64, 64, (1, 2, 4), 2, 512, 256, 64
# the CLIPs: a ViT of 64 patches, and a text transformer
TEXTS = {"width": 256, "layers": 4, "heads": 4}
IMAGES = {"width": 256, "layers": 6}
PATCH, VOCABULARY, LENGTH, END = 8, 8192, 77, 8191
SPOKEN = (5, 20)  # tokens of a caption, of which open_clip makes LENGTH

Loss = Callable[[], Tensor]


class Way:
    """A model with its optimiser, and its loss of the batch."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> None:
        self.model, self.loss = model.train(), partial(loss, model)
        self.optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5)
        self.seconds: list[float] = []

    def step(self, dtype: torch.dtype) -> float:
        """Processor seconds of a step."""
        began = time.process_time()
        with autocast(CPU, dtype):
            loss = self.loss()
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        return time.process_time() - began

    def products(self, dtype: torch.dtype) -> float:
        """Multiplications and additions of a step's products."""
        with FlopCounterMode(display=False) as counted:
            self.step(dtype)
        return float(counted.get_total_flops())

    def held(self, dtype: torch.dtype) -> int:
        """Bytes that a step holds at the end of its forward pass, with the optimiser's."""
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        own = {parameter.untyped_storage().data_ptr() for parameter in self.model.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast(CPU, dtype):
            loss = self.loss()
        activations = sum(size for place, size in kept.items() if place not in own)
        del loss
        weights = sum(parameter.nbytes for parameter in self.model.parameters())
        return activations + 4 * weights  # with gradients and two moments


def decoders(batch: int) -> dict[str, Way]:
    from dalle2_pytorch.dalle2_pytorch import Unet
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import Unet as PlainUnet

    torch.manual_seed(0)
    x, noise = torch.randn(2, batch, 3, PIXELS, PIXELS)
    label, embedding = torch.randint(1000, (batch,)), torch.randn(batch, EMBEDDING)
    ours = DecoderConfig(
        image_size=PIXELS,
        channels=WIDTH,
        multipliers=MULTIPLIERS,
        blocks=BLOCKS,
        attention=(4,),
        head_channels=HEAD,
        embedding=EMBEDDING,
        context=CONTEXT,
        dropout=0.0,
        learned_range=False,
    )
    last = tuple(k == len(MULTIPLIERS) - 1 for k in range(len(MULTIPLIERS)))
    heads = WIDTH * MULTIPLIERS[-1] // HEAD
    attention = {"attn_dim_head": HEAD, "attn_heads": heads}
    theirs = Unet(
        WIDTH,
        image_embed_dim=EMBEDDING,
        cond_dim=CONTEXT,
        dim_mults=MULTIPLIERS,
        self_attn=last,
        num_resnet_blocks=BLOCKS,
        cond_on_image_embeds=True,
        **attention,
    )
    plain = PlainUnet(WIDTH, dim_mults=MULTIPLIERS, full_attn=last, **attention)

    def our_loss(model: nn.Module) -> Tensor:
        given = DecoderCondition(embedding, torch.ones(batch, dtype=torch.bool))
        return F.mse_loss(model(x, label.float(), given).float(), noise)

    def their_loss(model: nn.Module) -> Tensor:
        return F.mse_loss(model(x, label, image_embed=embedding).float(), noise)

    def plain_loss(model: nn.Module) -> Tensor:
        return F.mse_loss(model(x, label).float(), noise)

    ours_last = Decoder(ours).to(memory_format=torch.channels_last)  # as the recipes train it
    return {
        "unclip": Way(ours_last, our_loss),
        "DALLE2-pytorch": Way(theirs, their_loss),
        "denoising-diffusion-pytorch": Way(plain, plain_loss),
    }


def clips(batch: int) -> dict[str, Way]:
    from open_clip.loss import ClipLoss
    from open_clip.model import CLIP as OpenCLIP
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    torch.manual_seed(0)
    images = torch.rand(batch, 3, PIXELS, PIXELS) * 2 - 1
    lengths = torch.randint(*SPOKEN, (batch,))
    ids = torch.randint(1, END, (batch, LENGTH))
    ids = torch.where(torch.arange(LENGTH) < lengths[:, None], ids, 0)
    ids[torch.arange(batch), lengths] = END  # the highest, where open_clip reads
    mask = torch.arange(LENGTH) <= lengths[:, None]
    config = CLIPConfig(
        embedding=256,
        image=VisionTransformerConfig(PIXELS, PATCH, heads=4, **IMAGES),
        text=TextTransformerConfig(VOCABULARY, LENGTH, **TEXTS),
        end_token=END,
    )
    vision = CLIPVisionCfg(image_size=PIXELS, patch_size=PATCH, head_width=64, **IMAGES)
    text = CLIPTextCfg(context_length=LENGTH, vocab_size=VOCABULARY, **TEXTS)
    theirs = ClipLoss()

    def our_loss(model: Any, grouped: bool) -> Tensor:
        if grouped:
            texts = text_by_length(lambda ids, mask: model.encode_text(ids).embedding, Tokens(ids, mask, ()))
        else:
            texts = model.encode_text(ids).embedding
        return clip_loss(model.encode_image(images), texts, model.scale)

    def their_loss(model: nn.Module) -> Tensor:
        return theirs(*model(images, ids))

    return {
        "unclip": Way(CLIP(config), partial(our_loss, grouped=True)),
        "unclip, texts of full length": Way(CLIP(config), partial(our_loss, grouped=False)),
        "open_clip": Way(OpenCLIP(256, vision, text), their_loss),
    }


def peak(dtype: torch.dtype) -> float:
    """Multiplications and additions a processor second of one large product."""
    left, right = torch.randn(2, SIDE, SIDE).to(dtype)
    began = time.process_time()
    left @ right
    return 2 * SIDE**3 / (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=GOALS)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="the results, JSON; other parts of it stay")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dtype, batch = pick_precision(CPU), arguments.batch
    ways = decoders(batch) if arguments.what == "decoder" else clips(batch)
    counts = {name: (way.products(dtype), way.held(dtype)) for name, way in ways.items()}
    peaks = []
    for _ in range(arguments.rounds):
        for way in ways.values():
            way.seconds.append(way.step(dtype))
        peaks.append(peak(dtype))
    highest = statistics.median(peaks)
    found: dict[str, Any] = {}
    for name, way in ways.items():
        seconds, (products, held) = statistics.median(way.seconds), counts[name]
        faster = statistics.median(
            other / own for other, own in zip(way.seconds, ways["unclip"].seconds, strict=True)
        )
        found[name] = {
            "seconds_a_step": round(seconds, 4),
            "lowest": round(min(way.seconds), 4),
            "highest": round(max(way.seconds), 4),
            "times_as_long_as_unclip": round(faster, 3),
            "parameters": sum(parameter.numel() for parameter in way.model.parameters()),
            "gigaflops_a_step": round(products / 1e9, 1),
            "share_of_the_peak": round(products / seconds / highest, 3),
            "megabytes": round(held / 1e6, 1),
        }
    part = {
        "goal": GOALS[arguments.what],
        "batch": batch,
        "rounds": arguments.rounds,
        "dtype": str(dtype).removeprefix("torch."),
        "peak_gigaflops": round(highest / 1e9, 1),
        "processor": processor_name(),
        "programs_at_once": round(os.getloadavg()[1], 1),  # that wanted a core, in the mean of five minutes
        "ways": found,
    }
    print(json.dumps(part, indent=1))
    if arguments.out is not None:
        whole = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
        with atomic_path(arguments.out) as temporary:
            temporary.write_text(json.dumps({**whole, arguments.what: part}, indent=1) + "\n")


if __name__ == "__main__":
    main()
