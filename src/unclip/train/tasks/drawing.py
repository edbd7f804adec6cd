"""The common half of tasks whose networks draw whole pictures from a caption, a class or nothing at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from unclip.diffusion.denoiser import Network
from unclip.train.batches import to_device
from unclip.train.loop import Judged
from unclip.train.pictures import spread
from unclip.train.places import Places
from unclip.train.tasks.diffusion import DiffusionTask, draw
from unclip.train.tasks.stage import PREVIEW_PICTURES, rows_of_pictures

HELD_OUT_BATCH = 64


class DrawingTask(DiffusionTask, ABC):
    """A network that draws; its figure is the loss on held-out pictures, its preview what it draws for them.

    A batch begins with the pictures, (B, 3, S, S); what follows says what to draw.
    """

    held_out: Sequence[Any]  # batches, the same at every evaluation
    split: str  # of the corpus, that they are of

    @abstractmethod
    def network(self, model: nn.Module, batch: Any) -> Network:
        """The model, told what the pictures of a batch show."""

    def dropped(self, batch: Any, places: Places) -> Any:
        """The batch, as training shows it: where guidance needs it, nothing is said of some pictures."""
        return batch

    def loss(self, model: nn.Module, batch: Any, places: Places) -> tuple[Tensor, dict[str, Tensor]]:
        images: Tensor = batch[0]
        network = self.network(model, self.dropped(batch, places))
        steps, noise = self.noise(images, places)
        return self.losses(network, images, steps, noise).mean(), {}

    @property
    def judged(self) -> Judged:
        return Judged(self.split, sum(len(batch[0]) for batch in self.held_out))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The mean loss of held-out pictures; steps, noise and what is dropped are the same every time.

        Where no held-out picture has a class that is drawn, there is no figure.
        """
        if not self.held_out:
            return {}
        device = next(model.parameters()).device
        losses, count = torch.zeros(()), 0
        for number, batch in enumerate(self.held_out):
            places = Places.whole(len(batch[0]), step=number, device=device)
            loss, _ = self.loss(model, to_device(batch, device), places)
            losses += loss.float().cpu() * len(batch[0])
            count += len(batch[0])
        return {"held_out_loss": float(losses / count)}

    @torch.no_grad()
    def preview(self, model: nn.Module) -> Image.Image | None:
        """Held-out pictures above, below what is drawn for their captions or classes, without guidance."""
        if not self.held_out:
            return None
        device = next(model.parameters()).device
        batch = to_device(self.held_out[0], device)
        truth = batch[0]
        drawn = draw(self.network(model, batch), self.diffusion, truth.shape, device)
        chosen = spread(len(truth), PREVIEW_PICTURES)
        return rows_of_pictures(truth[chosen], drawn[chosen])
