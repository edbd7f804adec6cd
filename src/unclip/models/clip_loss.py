"""Contrastive losses between pictures and texts: CLIP's, the sigmoid loss and the supervised one.

All take features that are not normalised, compute in float32 or better under any autocast, and return a
scalar.

With `group`, each process holds a part of the batch (the same number of rows everywhere) and computes its own
rows of the logits against everybody's features, which are gathered with their gradients. The mean of the
losses over the processes is the loss of the whole batch. So with gradients averaged over processes, as DDP
does, a step is the step that one process would have made with the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unclip.errors import InputError

KEY_FACTOR = 6364136223846793005  # of Knuth's MMIX generator


def clip_loss(
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    *,
    positives: Tensor | None = None,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Symmetric cross entropy over all pairs of the batch (2103.00020, figure 3).

    Args:
        image: (B, E), row i belongs to row i of `text`.
        text: (B, E).
        scale: () factor of the cosine similarities, `CLIP.scale`.
        positives: (B, M) bool, whether pair i of this process and pair j of the whole batch of M pairs mean
            the same thing (`same_concept` makes it). The targets are then uniform over the positives, in
            the manner of SoftCLIP (2303.17561): a second picture of a rocket is not wrong for "a rocket".
            Every pair must be its own positive. None: only its own.
        group: the processes that share the batch, if it is shared.

    Raises:
        InputError: features or positives of shapes that do not fit.
    """
    image, text, all_image, all_text, start = _prepare(image, text, group)
    targets = _targets(positives, image, all_image, start)
    with _full_precision(image):
        image_logits = scale * image @ all_text.T  # (B, M)
        text_logits = scale * text @ all_image.T  # (B, M)
        return (F.cross_entropy(image_logits, targets) + F.cross_entropy(text_logits, targets)) / 2


def sigmoid_loss(
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    positives: Tensor | None = None,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """SigLIP's loss: every pair of a picture and a text is one binary decision (2303.15343, section 3.2).

    The sum over all pairs, divided by the number of pictures. Arguments as of `clip_loss`, and `bias` (),
    which is `CLIP.logit_bias`. Here a positive counts fully: its label is 1.
    """
    image, text, _, all_text, start = _prepare(image, text, group)
    match = _positives(positives, image, all_text, start)  # (B, M)
    with _full_precision(image):
        logits = scale * image @ all_text.T + bias  # (B, M)
        return -F.logsigmoid(torch.where(match, logits, -logits)).sum() / len(image)


def supervised_contrastive_loss(
    features: Tensor,
    labels: Tensor,
    scale: Tensor | float,
    *,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Supervised contrastive loss, L_out of 2004.11362, equation 2.

    For CLIP: `torch.cat([image, text])` with the concepts given twice, so that a concept's pictures and names
    all attract each other.

    Args:
        features: (N, E), several views of the same thing each in a row of its own.
        labels: (N,) int64; rows of the same label attract each other.
        scale: factor of the cosine similarities, the inverse of the paper's temperature.
        group: the processes that share the batch, if it is shared.

    Returns:
        Mean over the rows that share their label with another row; 0 where there is none.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise InputError(
            f"features {tuple(features.shape)} and labels {tuple(labels.shape)}: they must be (N, E) and (N,)"
        )
    features = _normalise(features)
    everyone, start = _gather(features, group)  # (M, E)
    all_labels, _ = _gather(labels, group)  # (M,)
    with _full_precision(features):
        logits = scale * features @ everyone.T  # (N, M)
        row = torch.arange(len(features), device=features.device)
        itself = torch.zeros_like(logits, dtype=torch.bool)
        itself[row, row + start] = True
        # not -inf: the gradient of a single row without any other would be NaN
        others = logits.masked_fill(itself, torch.finfo(logits.dtype).min)
        log_share = logits - others.logsumexp(1, keepdim=True)  # (N, M)
        positive = (labels[:, None] == all_labels[None]) & ~itself  # (N, M)
        count = positive.sum(1)  # (N,)
        per_row = -log_share.masked_fill(~positive, 0).sum(1) / count.clamp(min=1)  # (N,)
        # a row without a positive is 0 already; processes may hold different numbers of the others
        anchors, processes = count.count_nonzero(), 1
        if group is not None:
            dist.all_reduce(anchors, group=group)
            processes = dist.get_world_size(group)
        return per_row.sum() * processes / anchors.clamp(min=1)


def in_parts(encode: Callable[..., Tensor], size: int, *inputs: Tensor) -> Tensor:
    """Encode a batch `size` rows at a time and keep nothing but the results: gradient caching (2101.06983).

    The losses need all pairs of a batch, the encoders do not. Each part is encoded a second time, with the
    same random numbers, when its gradients are taken; so a batch of 4096 needs the memory of one of `size`,
    and its loss and gradients are those of the whole batch but for rounding.

    Args:
        encode: takes as many tensors as there are inputs, (size, ...) each, and returns (size, E).
        size: rows of a part, at least 1.
        inputs: (B, ...) each.

    Returns:
        (B, E).
    """
    parts = zip(*(rows.split(size) for rows in inputs), strict=True)
    return torch.cat([checkpoint(encode, *part, use_reentrant=False) for part in parts])


def same_concept(concepts: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """`positives` for the losses, (B, M) bool, from one int64 concept number a pair, (B,)."""
    everyone, _ = _gather(concepts, group)
    return concepts[:, None] == everyone[None]


def text_keys(ids: Tensor, mask: Tensor) -> Tensor:
    """A number a text, int64 (B,), for `same_concept`: that of its tokens, however long the padding is.

    Takes ids (B, L) int64 and mask (B, L) bool. Two texts share a key by chance once in 2^64.
    """
    keys = torch.zeros(len(ids), dtype=torch.int64, device=ids.device)
    for column, there in zip(ids.T, mask.T, strict=True):
        keys = torch.where(there, (keys + column + 1) * KEY_FACTOR, keys)  # modulo 2^64
    return keys


def gather(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Rows of all processes by rank, (B, ...) -> (M, ...), with gradients that reach their owners."""
    return x if group is None else _Gather.apply(x, group)


def _gather(x: Tensor, group: dist.ProcessGroup | None) -> tuple[Tensor, int]:
    """Everybody's rows, and the place of the first of this process's."""
    start = 0 if group is None else dist.get_rank(group) * len(x)
    return gather(x, group), start


class _Gather(torch.autograd.Function):
    """All-gather along the rows; backward sums the gradients that all processes have for this one's rows.

    torch.distributed.nn's all_gather did the same; torch 2.13 deprecates it for a function that 2.12 has not.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group, ctx.rows = group, len(x)
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, x.contiguous(), group=group)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        parts = [part.contiguous() for part in gradients[0].split(ctx.rows)]
        own = torch.empty_like(parts[0])
        dist.reduce_scatter(own, parts, group=ctx.group)
        return own, None


def _normalise(x: Tensor) -> Tensor:
    """Rows of length 1, at least float32."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


def _full_precision(x: Tensor) -> torch.autocast:
    """Logits reach 100: in bfloat16 they would be off by up to a quarter."""
    return torch.autocast(x.device.type, enabled=False)


def _prepare(
    image: Tensor, text: Tensor, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Both sides normalised, both sides of everybody, and the place of this process's first row."""
    if image.ndim != 2 or image.shape != text.shape:
        raise InputError(
            f"image features {tuple(image.shape)} and text features {tuple(text.shape)}: both must be (B, E)"
        )
    image, text = _normalise(image), _normalise(text)
    all_image, start = _gather(image, group)
    all_text, _ = _gather(text, group)
    return image, text, all_image, all_text, start


def _positives(positives: Tensor | None, own: Tensor, everyone: Tensor, start: int) -> Tensor:
    """Checked `positives`, or each row's own pair, (B, M) bool."""
    shape = (len(own), len(everyone))
    if positives is None:
        row = torch.arange(len(own), device=own.device)
        return torch.arange(len(everyone), device=own.device) == row[:, None] + start
    if positives.shape != shape or positives.dtype != torch.bool:
        raise InputError(
            f"positives {tuple(positives.shape)} {positives.dtype}: they must be {shape} torch.bool"
        )
    return positives


def _targets(positives: Tensor | None, own: Tensor, everyone: Tensor, start: int) -> Tensor:
    """Targets of the cross entropy: (B,) int64, or (B, M) shares where there may be several positives."""
    if positives is None:
        return torch.arange(len(own), device=own.device) + start
    match = _positives(positives, own, everyone, start).to(own.dtype)
    return match / match.sum(1, keepdim=True)
