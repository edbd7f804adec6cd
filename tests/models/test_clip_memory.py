"""The promise of gradient caching: a batch of 4096 pairs is learned from in the memory of 256."""

from __future__ import annotations

import torch

from unclip.models.clip import CLIP, CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from unclip.models.clip_loss import clip_loss, in_parts
from unclip.train.live_bytes import LiveBytes

BATCH, PART = 4096, 256


def test_a_batch_of_4096_needs_the_memory_of_256() -> None:
    torch.manual_seed(0)
    image = VisionTransformerConfig(image_size=16, patch=4, width=32, layers=2, heads=2)
    text = TextTransformerConfig(20, context=4, width=8, layers=1, heads=2)
    model = CLIP(CLIPConfig(embedding=8, image=image, text=text, end_token=2))
    images = torch.randn(BATCH, 3, 16, 16)

    def peak(rows: int, part: int) -> int:
        model.zero_grad()
        with LiveBytes() as live:
            in_parts(model.encode_image, part, images[:rows]).square().sum().backward()
        return live.peak

    small = peak(PART, PART)
    embeddings = 4 * BATCH * 8  # bytes of them, or of their gradients, that the whole batch has besides
    assert peak(BATCH, PART) <= 1.05 * small + 6 * embeddings
    assert 6 * embeddings < 0.1 * small
    with LiveBytes() as live:
        model.encode_image(images[: 4 * PART]).square().sum().backward()
    assert live.peak > 3 * small  # what is counted does grow with what is encoded at once


def test_the_loss_of_a_large_batch_holds_few_matrices_of_all_pairs() -> None:
    features = [torch.randn(512, 4, requires_grad=True) for _ in range(2)]
    with LiveBytes() as live:
        clip_loss(*features, torch.tensor(14.0)).backward()
    assert live.peak < 7 * 4 * 512**2
