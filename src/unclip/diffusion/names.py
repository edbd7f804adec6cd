"""The names of the samplers, for those who list them without loading torch."""

from __future__ import annotations

from enum import StrEnum


class SamplerName(StrEnum):
    """A sampler, as options and bundles name it."""

    ANCESTRAL = "ancestral"
    DDIM = "ddim"
    ANALYTIC_DPM = "analytic-dpm"
    DPM_SOLVER = "dpm++"
    HEUN = "heun"
    LANGEVIN = "langevin"
