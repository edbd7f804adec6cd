"""The work of one step of a stage, counted without doing it: operations, and the bytes that it keeps.

The stage's own network goes through one forward and one backward pass over tensors that have shapes and no
contents (torch's `FakeTensorMode`), so a transformer of 12 billion parameters costs no memory. Operations are
counted by torch's `FlopCounterMode`, which knows products of matrices, convolutions and attention; bytes as
`LiveBytes` counts them. Captions are taken to be as long as the context.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from unclip.errors import InputError
from unclip.models.codec import CodecTraining
from unclip.models.decoder import DecoderCondition
from unclip.models.glide import GlideCondition
from unclip.models.prior import PriorCondition
from unclip.models.quantiser import quantise, relax
from unclip.models.vqgan import VQGAN
from unclip.models.vqvae_loss import clip_distance, judge
from unclip.native import IMPOSSIBLE, KINDS, kind_of_config
from unclip.nn.attention import fused
from unclip.nn.layers import RGB
from unclip.runtime import autocast
from unclip.train.config import LoopConfig, Optimiser
from unclip.train.live_bytes import LiveBytes
from unclip.train.optim import muon_names
from unclip.train.parallel import units
from unclip.train.results import Results
from unclip.train.settings import Settings

CPU = torch.device("cpu")


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


# the fused kernel of a CPU, which stands for a GPU's: torch's counter does not know it
FUSED = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


@dataclass(frozen=True)
class Held:
    """The bytes that a pass holds, gradients of the weights left out.

    Attributes:
        kept: activations that the forward pass leaves for the backward pass.
        cast: weights in the number format of matrix products, at the most.
        working: what there is beyond these at the worst moment.
    """

    kept: int
    cast: int
    working: int


@dataclass(frozen=True)
class Workload:
    """The cost of one part of a batch, in one process that holds the whole model.

    Attributes:
        pictures: in the part.
        shapes: of the trained parameters.
        moments: numbers that the optimiser keeps beside them.
        fixed: numbers of weights that nothing trains: buffers, and networks of earlier stages.
        units: numbers of the parts that FSDP gathers one by one; the last is what it gathers with the whole.
        forward, backward: floating-point operations; what checkpointing computes again is in the second.
        held: where autocast keeps the weights of a pass, see `runtime.autocast`.
        light: where it makes them anew each time, as for processes that hold shares.
    """

    pictures: int
    shapes: tuple[tuple[int, ...], ...]
    moments: int
    fixed: int
    units: tuple[int, ...]
    forward: int
    backward: int
    held: Held
    light: Held

    @property
    def parameters(self) -> int:
        """Numbers that are trained."""
        return sum(map(math.prod, self.shapes))


class Network:
    """The network of a stage and those of earlier stages that it learns from, with the pass of a batch.

    Args:
        run: whose recipe the stage is of.
        stage: its name.
        pairs: in the batch of all processes, which a contrastive loss compares.
    """

    def __init__(self, run: Results, stage: str, pairs: int) -> None:
        self.settings: Settings = run.settings(stage)
        self.stage, self.pairs = stage, pairs
        self.model = _built(self.settings.model)
        self.model.train()
        others = {"prior": "clip", "ar-prior": "clip", "decoder": "clip", "layout": "clip", "dalle1": "vqvae"}
        self.other: nn.Module | None = None
        if stage in others:
            self.other = _built(run.config(others[stage], stage))
        elif stage == "vqvae" and self.settings.task.perceptual:
            self.other = _built(run.config("clip", stage))
        if self.other is not None:
            self.other.eval().requires_grad_(False)
        task = self.settings.task
        self.checkpointing: bool = getattr(task, "checkpointing", False)
        if self.checkpointing:
            self.model.checkpointing = True  # type: ignore[assignment]  # of DALL-E 1
        if getattr(task, "locked", False):
            self.model.get_submodule("visual").requires_grad_(False)
        if stage == "decoder" and self.settings.model.layout is not None:
            self.model.get_submodule("layout").requires_grad_(False)

    def loss(self, pictures: int) -> Tensor:
        """A number that the stage's outputs all take part in, of a batch of so many."""
        return PASSES[self.stage](self, pictures)

    # what a batch is made of: only the shapes count

    def images(self, pictures: int, size: int) -> Tensor:
        return torch.zeros(pictures, RGB, size, size)

    def tokens(self, pictures: int, context: int) -> tuple[Tensor, Tensor]:
        ids = torch.zeros(pictures, context, dtype=torch.int64)
        return ids, torch.ones(pictures, context, dtype=torch.bool)

    def read(self, pictures: int, context: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Text embedding, features, ids and mask of captions, as the finished CLIP reads them."""
        assert self.other is not None
        clip: Any = self.other
        ids, mask = self.tokens(pictures, min(context, clip.config.text.context))
        with torch.no_grad():
            found = clip.encode_text(ids, mask)
        return F.normalize(found.embedding.float(), dim=1), found.sequence, ids, mask


def count(
    run: Results,
    stage: str,
    config: LoopConfig,
    pictures: int,
    precision: torch.dtype,
    *,
    on_gpu: bool = True,
) -> Workload:
    """Counts one part of a batch.

    Args:
        run: whose recipe the stage is of.
        stage: one that trains a network.
        config: the settings of its loop.
        pictures: in the part.
        precision: of matrix products.
        on_gpu: attention takes the kernel that it takes on a GPU, which keeps no table of all pairs.

    Raises:
        InputError: the settings of the stage do not go together.
    """
    with ExitStack() as modes, _quiet():
        modes.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        if on_gpu:
            modes.enter_context(fused())
        try:
            network = Network(run, stage, config.batch)
            return _counted(network, config, pictures, precision)
        except IMPOSSIBLE as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{stage}: a step of it fails ({error}): settings of its model, task and diffusion do not go "
                "together"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences torch's log of shapes that do not fit: the error says the same."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _counted(network: Network, config: LoopConfig, pictures: int, precision: torch.dtype) -> Workload:
    model = network.model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:  # gradients are counted by themselves
        parameter.register_post_accumulate_grad_hook(_forget)
    with FlopCounterMode(display=False, custom_mapping=FUSED) as operations:
        loss = _forward(network, pictures, precision)
        forward = operations.get_total_flops()
        loss.backward()
    del loss
    # in passes of their own: what counts operations holds tensors longer than they live
    light = held = _held(network, pictures, precision)
    if network.checkpointing:  # else whatever is made is kept for the backward pass
        light = _held(network, pictures, precision, keeps=False)
    muon = set(muon_names(model, config.adamw_only)) if config.optimiser is Optimiser.MUON else set()
    named = [(name, one.numel()) for name, one in model.named_parameters() if one.requires_grad]
    fixed = [*model.buffers(), *(p for p in model.parameters() if not p.requires_grad)]
    fixed += [] if network.other is None else [*network.other.parameters(), *network.other.buffers()]
    return Workload(
        pictures=pictures,
        shapes=tuple(tuple(parameter.shape) for parameter in trained),
        moments=sum(size * (1 if name in muon else 2) for name, size in named),
        fixed=sum(tensor.numel() for tensor in fixed),
        units=_unit_sizes(model),
        forward=forward,
        backward=operations.get_total_flops() - forward,
        held=held,
        light=light,
    )


def _forward(network: Network, pictures: int, precision: torch.dtype, keeps: bool = True) -> Tensor:
    with autocast(CPU, precision, keeps=keeps):
        return network.loss(pictures)


def _held(network: Network, pictures: int, precision: torch.dtype, keeps: bool = True) -> Held:
    weights = [*network.model.parameters(), *(network.other.parameters() if network.other else ())]
    with LiveBytes(weights) as live:
        loss = _forward(network, pictures, precision, keeps)
        kept = live.now - live.cast_now
        loss.backward()
    return Held(kept, live.cast, max(0, live.peak - kept - live.cast))


def _forget(parameter: Tensor) -> None:
    parameter.grad = None


def _unit_sizes(model: nn.Module) -> tuple[int, ...]:
    """The numbers in each part that FSDP gathers by itself, those within it left out, and the rest."""
    seen: set[int] = set()
    sizes = []
    for unit in [*reversed(units(model)), model]:  # the inner ones first, as they are cut
        own = [parameter for parameter in unit.parameters() if id(parameter) not in seen]
        seen |= {id(parameter) for parameter in own}
        sizes.append(sum(parameter.numel() for parameter in own))
    return tuple(sizes)


def _built(config: Any) -> nn.Module:
    """The network of a config."""
    module, _, name = KINDS[kind_of_config(config)]
    model: nn.Module = getattr(importlib.import_module(module), name)(config)
    return model


# --- the pass of each stage: as its task's loss in train/tasks, over zeros


def _squared(output: Tensor) -> Tensor:
    return output.float().square().mean()


def _supervised(network: Network, pictures: int) -> Tensor:
    config = network.settings.model
    logits = network.model(network.images(pictures, config.image.image_size)).float()
    return F.cross_entropy(logits, torch.zeros(pictures, dtype=torch.int64))


def _contrast(network: Network, image: Tensor, text: Tensor) -> Tensor:
    """Both sides of the cross entropy of a process's pairs against all pairs of the batch."""
    others = torch.zeros(max(0, network.pairs - len(image)), image.shape[1])
    image, text = F.normalize(image.float(), dim=1), F.normalize(text.float(), dim=1)
    targets = torch.zeros(len(image), network.pairs)
    with torch.autocast(image.device.type, enabled=False):
        by_image = image @ torch.cat([text, others]).T
        by_text = text @ torch.cat([image, others]).T
    return F.cross_entropy(by_image, targets) + F.cross_entropy(by_text, targets)


def _clip(network: Network, pictures: int) -> Tensor:
    config, task, model = network.settings.model, network.settings.task, network.model
    clip: Any = model
    ids, mask = network.tokens(pictures, config.text.context)
    if task.locked:
        image = torch.zeros(pictures, config.embedding)
    else:
        image = clip.encode_image(network.images(pictures, config.image.image_size))
    loss = _contrast(network, image, clip.encode_text(ids, mask).embedding)
    if task.teacher is not None:
        words = clip.encode_text(*network.tokens(pictures * task.teacher.words, config.text.context))
        loss = loss + _squared(words.embedding)
    return loss


def _noised_clip(network: Network, pictures: int) -> Tensor:
    config = network.settings.model
    clip: Any = network.model
    images = network.images(pictures, config.image.image_size)
    image = clip.encode_image(images, torch.zeros(pictures))
    return _contrast(network, image, clip.encode_text(*network.tokens(pictures, config.text.context)))


def _vqvae(network: Network, pictures: int) -> Tensor:
    model, task = network.model, network.settings.task
    assert isinstance(model, CodecTraining)
    images, codec = network.images(pictures, task.size), model.codec
    if isinstance(codec, VQGAN):
        quantised = quantise(codec, codec.latents(images), task.nearest)
        drawn = codec.from_vectors(quantised.vectors)
        loss = quantised.loss + _squared(drawn)
    else:
        logits = codec.logits(images)
        relaxed = relax(logits, 1.0, torch.ones(logits.shape))
        said = codec.decoder(relaxed.weights.to(images.dtype))
        drawn = torch.sigmoid(said[:, :RGB].float())
        loss = _squared(said) + relaxed.divergence
    if task.perceptual:
        assert network.other is not None
        clip: Any = network.other
        side = clip.config.image.image_size
        sized = [F.interpolate(some, (side, side)) for some in (drawn, images)]
        loss = loss + clip_distance(clip, *sized)
    if task.adversarial:
        judged = judge(model.critic, drawn, images)
        loss = loss + judged.learning + judged.drawing
    return loss


def _dalle1(network: Network, pictures: int) -> Tensor:
    config = network.settings.model
    transformer: Any = network.model
    ids, mask = network.tokens(pictures, config.text_context)
    codes = torch.zeros(pictures, config.codes, dtype=torch.int64)
    total: Tensor = transformer.losses(ids, mask, codes).total
    return total


def _prior(network: Network, pictures: int) -> Tensor:
    text, sequence, _, mask = network.read(pictures, network.settings.model.context)
    condition = PriorCondition(text, sequence, mask, torch.ones(pictures, dtype=torch.bool))
    x = torch.zeros(pictures, network.settings.model.embedding)
    return _squared(network.model(x, torch.zeros(pictures), condition))


def _ar_prior(network: Network, pictures: int) -> Tensor:
    text, sequence, _, mask = network.read(pictures, network.settings.model.context)
    condition = PriorCondition(text, sequence, mask, torch.ones(pictures, dtype=torch.bool))
    codes = torch.zeros(pictures, network.settings.model.components, dtype=torch.int64)
    logits = network.model(codes, condition, torch.zeros(pictures, dtype=torch.int64))
    return F.cross_entropy(logits.float().transpose(1, 2), codes)


def _glide(network: Network, pictures: int) -> Tensor:
    config = network.settings.model
    glide: Any = network.model
    x = network.images(pictures, config.image_size)
    condition = GlideCondition(glide.read(*network.tokens(pictures, config.caption.context)))
    return _squared(glide(x, torch.zeros(pictures), condition))


def _adm(network: Network, pictures: int) -> Tensor:
    config = network.settings.model
    classes = None if config.classes is None else torch.zeros(pictures, dtype=torch.int64)
    x = network.images(pictures, config.image_size)
    return _squared(network.model(x, torch.zeros(pictures), classes))


def _classifier(network: Network, pictures: int) -> Tensor:
    x = network.images(pictures, network.settings.model.image_size)
    logits = network.model(x, torch.zeros(pictures)).float()
    return F.cross_entropy(logits, torch.zeros(pictures, dtype=torch.int64))


def _upsampler(network: Network, pictures: int) -> Tensor:
    crop = network.settings.task.crop
    low = network.images(pictures, crop // network.settings.model.scale)
    x = network.images(pictures, crop)
    return _squared(network.model(x, torch.zeros(pictures), low=low))


def _layout(network: Network, pictures: int) -> Tensor:
    embedding = torch.zeros(pictures, network.settings.model.embedding)
    return _squared(network.model(embedding, torch.zeros(pictures)))


def _decoder(network: Network, pictures: int) -> Tensor:
    config = network.settings.model
    clip: Any = network.other
    _, sequence, ids, mask = network.read(pictures, clip.config.text.context)
    kept = torch.ones(pictures, dtype=torch.bool)
    x = network.images(pictures, config.image_size)
    condition = DecoderCondition(
        embedding=torch.zeros(pictures, config.embedding),
        keep_image=kept,
        sequence=sequence,
        ids=ids,
        mask=mask,
        keep_text=kept,
        noise_level=torch.zeros(pictures) if config.noisy_embedding else None,
        text_embedding=torch.zeros(pictures, config.embedding) if config.text_to_time else None,
        known=x if config.inpainting else None,
        keep=x[:, :1] if config.inpainting else None,
        augmentation=torch.zeros(pictures, config.augmentation) if config.augmentation else None,
    )
    return _squared(network.model(x, torch.zeros(pictures), condition))


PASSES: dict[str, Callable[[Network, int], Tensor]] = {
    "supervised": _supervised,
    "clip": _clip,
    "vqvae": _vqvae,
    "dalle1": _dalle1,
    "prior": _prior,
    "ar-prior": _ar_prior,
    "noised-clip": _noised_clip,
    "glide": _glide,
    "classifier": _classifier,
    "adm": _adm,
    "upsampler-256": _upsampler,
    "upsampler-1024": _upsampler,
    "layout": _layout,
    "decoder": _decoder,
}
