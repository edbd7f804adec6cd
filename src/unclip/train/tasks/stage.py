"""What the tasks of all stages have alike."""

from __future__ import annotations

from typing import Any

from PIL import Image
from torch import nn

from unclip.config import to_dict

PREVIEW_PICTURES = 12


class StageTask:
    """A task whose model and settings are made from the tables of a recipe's stage.

    It adds up over the parts of a batch and shows no pictures; one that is otherwise says so itself.
    """

    accumulates = True
    model: nn.Module
    task: Any  # the dataclass of the stage's `task` table

    @property
    def config(self) -> dict[str, Any]:
        return {"model": to_dict(self.model.config), "task": to_dict(self.task)}

    def preview(self, model: nn.Module) -> Image.Image | None:
        return None
