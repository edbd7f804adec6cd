"""A codec while it is trained: the codec itself, and what only its training needs.

Both kinds of codec, OpenAI's discrete VAE and the VQGAN, train through this one model, so that their own
weight files hold nothing but themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.models.quantiser import CodeUse
from unclip.models.vqgan import VQGAN, VQGANConfig
from unclip.models.vqvae import VQVAE, VQVAEConfig
from unclip.models.vqvae_loss import Critic, CriticConfig


@dataclass(frozen=True)
class CodecTrainingConfig:
    """One of the two codecs, and the critic of its pictures if it has one."""

    vqgan: VQGANConfig | None = None
    dvae: VQVAEConfig | None = None
    critic: CriticConfig | None = None

    def __post_init__(self) -> None:
        if (self.vqgan is None) == (self.dvae is None):
            raise InputError("give one codec, vqgan or dvae")

    @property
    def codec(self) -> VQGANConfig | VQVAEConfig:
        """Of the one that it is."""
        if self.vqgan is not None:
            return self.vqgan
        assert self.dvae is not None  # one of the two is there
        return self.dvae


class CodecTraining(nn.Module):
    """A codec with its critic and its counts.

    `pictures` counts those that were learned from, which the anneals follow.
    """

    pictures: Tensor

    def __init__(self, config: CodecTrainingConfig) -> None:
        super().__init__()
        self.config = config
        self.codec: VQGAN | VQVAE
        if config.vqgan is not None:
            self.codec = VQGAN(config.vqgan)
            self.use = CodeUse(config.vqgan.vocabulary, config.vqgan.embedding)
        else:
            assert config.dvae is not None  # one of the two is there
            self.codec = VQVAE(config.dvae)
        if config.critic is not None:
            self.critic = Critic(config.critic)
        self.register_buffer("pictures", torch.zeros((), dtype=torch.int64))
