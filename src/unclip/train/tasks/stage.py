"""The common half of the tasks of all stages."""

from __future__ import annotations

from typing import Any

from PIL import Image
from torch import Tensor, nn

from unclip.config import to_dict
from unclip.diffusion.schedule import DiffusionConfig
from unclip.images import to_pil
from unclip.sheets import contact_sheet

PREVIEW_PICTURES = 12


class StageTask:
    """A task whose model and settings are made from the tables of a recipe's stage.

    It adds up over the parts of a batch and shows no pictures; one that is otherwise says so itself.
    """

    accumulates = True
    model: nn.Module
    task: Any  # the dataclass of the stage's `task` table
    diffusion: DiffusionConfig | None = None  # over whose noise levels it learns

    @property
    def tables(self) -> dict[str, Any]:
        """The configs by name."""
        tables = {"model": self.model.config, "task": self.task, "diffusion": self.diffusion}
        return {name: table for name, table in tables.items() if table is not None}

    @property
    def config(self) -> dict[str, Any]:
        return {name: to_dict(table) for name, table in self.tables.items()}

    def preview(self, model: nn.Module) -> Image.Image | None:
        return None


def rows_of_pictures(*rows: Tensor) -> Image.Image:
    """Rows of pictures (N, 3, S, S) in [-1, 1], one below the other."""
    return contact_sheet([to_pil(image) for row in rows for image in row], columns=len(rows[0]))
