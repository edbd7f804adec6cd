"""A task that trains in milliseconds: convolutions, a matrix, an embedding, dropout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from unclip import native
from unclip.config import to_dict
from unclip.train.places import Places


@dataclass(frozen=True)
class TinyConfig:
    width: int = 8
    dropout: float = 0.1


class TinyModel(nn.Module):
    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        width, dropout = config.width, config.dropout
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(2, width)
        self.dropout = nn.Dropout(dropout)
        self.label = nn.Embedding(4, width)
        self.hidden = nn.Linear(width, width)
        self.last = nn.Conv2d(width, 3, 1)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        h = self.norm(self.middle(torch.relu(self.first(x))))  # (B, width, H, W)
        h = h + self.hidden(self.label(label))[:, :, None, None]
        result: Tensor = self.last(self.dropout(torch.relu(h)))
        return result


native.KINDS["tiny"] = (__name__, "TinyConfig", "TinyModel")  # a loop writes only weights that can be read


@dataclass(frozen=True)
class TinyBatch:
    images: Tensor  # (B, 3, 4, 4)
    labels: Tensor  # (B,)


class TinyTask:
    """Removes noise from pictures of one colour."""

    name = "tiny"

    def __init__(self, width: int = 8, dropout: float = 0.1, init: int = 0) -> None:
        torch.manual_seed(init)
        self.model = TinyModel(TinyConfig(width, dropout))

    @property
    def config(self) -> dict[str, Any]:
        return {"model": to_dict(self.model.config)}

    def batch(self, places: Places) -> Any:
        labels = places.randint(0, 4)
        return TinyBatch(labels[:, None, None, None].float().expand(-1, 3, 4, 4) / 2 - 1, labels)

    def loss(self, model: nn.Module, batch: Any, places: Places) -> tuple[Tensor, dict[str, Any]]:
        noise = places.randn(*batch.images.shape[1:])
        loss = (model(batch.images + noise, batch.labels) - batch.images).square().mean()
        return loss, {"mse": loss.detach()}

    def preview(self, model: nn.Module) -> Image.Image | None:
        assert not model.training
        return Image.new("RGB", (4, 4))

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {"seen": float(model.get_buffer("seen"))}


class Recorded(TinyTask):
    """Keeps what each place of each step has drawn: its label, then the noise of its loss."""

    def __init__(self, init: int = 0) -> None:
        super().__init__(dropout=0, init=init)
        self.drawn: dict[tuple[int, int], list[Tensor]] = {}

    def batch(self, places: Places) -> Any:
        batch = super().batch(places)
        for place, label in zip(places.numbers, batch.labels, strict=True):
            self.drawn[places.step, place] = [label]
        return batch

    def loss(self, model: nn.Module, batch: Any, places: Places) -> tuple[Tensor, dict[str, Any]]:
        fresh = replace(places)  # from the beginning of the streams
        rows = zip(places.numbers, fresh.randn(*batch.images.shape[1:]), fresh.stratified(), strict=True)
        for place, *noise in rows:
            self.drawn[places.step, place] += noise
        return super().loss(model, batch, places)
