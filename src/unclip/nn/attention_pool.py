"""Attention pooling: a learned probe looks at all positions and becomes their summary."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.nn.transformer import MLP, TransformerConfig


class AttentionPool(nn.Module):
    """One learned query over all positions, then a residual MLP, (B, N, D) -> (B, D).

    Pooling by multihead attention (1810.00825, section 3.2) with one seed, as SigLIP's image tower has it:
    the probe is no part of the residual, and the values have no norm of their own.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.probe = nn.Parameter(width**-0.5 * torch.randn(width))
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.ln = nn.LayerNorm(width)
        self.mlp = MLP(config)
        for matrix in (self.in_proj_weight, self.out_proj.weight):
            nn.init.xavier_uniform_(matrix)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        probe_weight, weight = self.in_proj_weight.split([width, 2 * width])
        probe_bias, bias = self.in_proj_bias.split([width, 2 * width])
        query = F.linear(self.probe.to(probe_weight.dtype), probe_weight, probe_bias)  # (D,)
        query = query.view(1, self.heads, 1, -1).expand(batch, -1, -1, -1)  # (B, H, 1, D/H)
        pair = F.linear(x, weight, bias).view(batch, count, 2, self.heads, -1)  # (B, N, 2, H, D/H)
        key, value = pair.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, N, D/H) each
        out = F.scaled_dot_product_attention(query.to(key.dtype), key, value)  # (B, H, 1, D/H)
        pooled = self.out_proj(out.flatten(1))  # (B, D)
        return pooled + self.mlp(self.ln(pooled))
