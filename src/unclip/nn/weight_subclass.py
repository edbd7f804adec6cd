"""Weights that multiply in a way of their own, in the place of a layer's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from unclip.nn.transformer import Attention


class OwnProduct(Tensor):
    """A weight that a layer hands to a function as ever, and that does in its place what `compute` does.

    Attributes:
        function: which one: `F.linear` for a matrix.
    """

    function: ClassVar[Callable[..., Tensor]] = F.linear

    @staticmethod
    def compute(*arguments: Any, **options: Any) -> Tensor:
        """The result of `function`, with its arguments."""
        raise NotImplementedError

    def product(self, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
        """The same with its arguments but the input, for who calls it many times."""
        return lambda x: self.compute(x, self, bias)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is cls.function:
            return cls.compute(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)


def replace_matrices_(model: nn.Module, made: Callable[[Tensor], OwnProduct]) -> None:
    """Put what is made of them in the place of the weights of linear layers and attention."""
    for module in model.modules():
        name = {nn.Linear: "weight", Attention: "in_proj_weight"}.get(type(module))
        if name is not None and not isinstance(getattr(module, name), OwnProduct):
            replace_(module, name, made(getattr(module, name).detach()))


def replace_(module: nn.Module, name: str, weight: OwnProduct) -> None:
    """Put a weight in the place of a parameter."""
    delattr(module, name)  # it was a parameter, and this is none
    setattr(module, name, weight)
