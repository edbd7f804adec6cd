"""The key table: which of our tensors is which of theirs, read in both directions and strictly.

A rule pairs patterns of dotted names. `{i}` in a pattern stands for one part of a name (without a dot) and
must be the same on both sides; `{rest*}` stands for one or more parts. Where a rule gives no transformation,
the tensor is the same. Reading and writing check every name and every shape before the first tensor is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from unclip.checkpoints.weights import Weights
from unclip.errors import CheckpointError
from unclip.native import refuse

Shape: TypeAlias = tuple[int, ...]
Transformation: TypeAlias = Callable[..., Any]  # tensors -> a tensor, or a tuple of them

SURPLUS = 100  # times as many tensors as the model has are too many to be looked at
FIELD = re.compile(r"\{(\w+)(\*?)\}")


class Pattern:
    """A dotted name with fields, which matches names and makes them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.fields = frozenset(match[1] for match in FIELD.finditer(text))
        self.template = FIELD.sub(r"{\1}", text)
        expression, position = "", 0
        for match in FIELD.finditer(text):
            expression += re.escape(text[position : match.start()])
            expression += f"(?P<{match[1]}>{'.+' if match[2] else '[^.]+'})"
            position = match.end()
        self.expression = re.compile(expression + re.escape(text[position:]))

    def match(self, name: str) -> dict[str, str] | None:
        """The fields' values where the name is of this pattern."""
        found = self.expression.fullmatch(name)
        return None if found is None else found.groupdict()

    def fill(self, fields: Mapping[str, str]) -> str:
        """The name that has these values."""
        return self.template.format_map(fields)


@dataclass(frozen=True)
class Rule:
    """One line of a table.

    Attributes:
        ours: pattern or patterns of our names.
        theirs: pattern or patterns of theirs, with the same fields.
        read: their tensors in order of `theirs` -> our tensor, or a tuple in order of `ours`.
        write: our tensors in order of `ours` -> their tensor, or a tuple in order of `theirs`.
    """

    ours: str | tuple[str, ...]
    theirs: str | tuple[str, ...]
    read: Transformation | None = None
    write: Transformation | None = None

    def __post_init__(self) -> None:
        fields = {Pattern(text).fields for text in (*_tuple(self.ours), *_tuple(self.theirs))}
        if len(fields) != 1:
            raise ValueError(f"the patterns of {self.ours} and {self.theirs} must have the same fields")
        plain = isinstance(self.ours, str) and isinstance(self.theirs, str)
        if not plain and self.read is None:
            raise ValueError(f"{self.theirs} -> {self.ours}: several names need a transformation")


@dataclass(frozen=True)
class _Move:
    """One use of a rule: from these names to those."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    change: Transformation | None


class Table:
    """Rules, of which the first that matches a name counts.

    Args:
        rules: in order.
        ignored: patterns of their names that hold no weights (masks, position ids) and are passed over.
    """

    def __init__(self, rules: Iterable[Rule], ignored: Iterable[str] = ()) -> None:
        self.rules = tuple(rules)
        self.ignored = tuple(Pattern(text) for text in ignored)

    def shapes(self, weights: Weights | Mapping[str, Tensor], where: str) -> dict[str, Shape]:
        """Our names and shapes of what the rules know in `weights`, to tell an architecture from.

        Nothing is read, and what no rule knows is passed over: `read` is strict.
        """
        moves, _, _ = _moves(self._sides(), list(weights))
        return _shapes(moves, weights, where)

    def read(
        self, weights: Weights | Mapping[str, Tensor], expected: Mapping[str, Shape], where: str
    ) -> Iterator[tuple[str, Tensor]]:
        """Our tensors, one after the other, from theirs.

        Args:
            weights: their tensors.
            expected: the names and shapes that our model has.
            where: what the weights are called in messages.

        Raises:
            CheckpointError: a tensor of theirs is in no rule, one of ours is missing, there is one that our
                model does not have, or one has another shape. Nothing has been read by then.
        """
        names = [name for name in weights if not self._is_ignored(name)]
        if len(names) > SURPLUS * (len(expected) + SURPLUS):  # to look each up in all rules would take long
            raise CheckpointError(
                f"{where}: {len(names)} tensors do not fit a model that has {len(expected)}"
            )
        moves, unknown, incomplete = _moves(self._sides(), names)
        produced = _shapes(moves, weights, where)
        refuse(
            where,
            {
                "unknown": unknown,
                "missing": [*incomplete, *(name for name in expected if name not in produced)],
                "without a place in the model": [name for name in produced if name not in expected],
                "mis-shaped": [
                    f"{name} is {list(shape)} and should be {list(expected[name])}"
                    for name, shape in produced.items()
                    if name in expected and shape != tuple(expected[name])
                ],
            },
        )
        for move in moves:
            yield from _apply(move, weights)

    def write(self, state: Mapping[str, Tensor], where: str = "the model") -> dict[str, Tensor]:
        """Their tensors from all of ours.

        Raises:
            CheckpointError: a tensor of ours is in no rule, or a rule with several of ours lacks one.
        """
        sides = [(_tuple(rule.ours), _tuple(rule.theirs), _inverse(rule)) for rule in self.rules]
        moves, unknown, incomplete = _moves(sides, list(state))
        refuse(where, {"unknown": unknown, "missing": incomplete})
        return {name: tensor for move in moves for name, tensor in _apply(move, state)}

    def _is_ignored(self, name: str) -> bool:
        return any(pattern.match(name) is not None for pattern in self.ignored)

    def _sides(self) -> list[tuple[tuple[str, ...], tuple[str, ...], Transformation | None]]:
        return [(_tuple(rule.theirs), _tuple(rule.ours), rule.read) for rule in self.rules]


def _inverse(rule: Rule) -> Transformation | None:
    if rule.read is not None and rule.write is None:

        def refuse(*tensors: Tensor) -> Tensor:
            raise CheckpointError(f"{rule.ours} cannot be written as {rule.theirs}: this format is only read")

        return refuse
    return rule.write


def _moves(
    sides: Sequence[tuple[tuple[str, ...], tuple[str, ...], Transformation | None]], names: Sequence[str]
) -> tuple[list[_Move], list[str], list[str]]:
    """The uses of the rules for these names, the names that no rule knows, and those that a rule misses."""
    patterns = [tuple(map(Pattern, sources)) for sources, _, _ in sides]
    targets = [tuple(map(Pattern, texts)) for _, texts, _ in sides]
    uses: dict[tuple[int, tuple[tuple[str, str], ...]], dict[int, str]] = {}
    unknown = []
    for name in names:
        for i, j, pattern in (
            (i, j, pattern) for i, row in enumerate(patterns) for j, pattern in enumerate(row)
        ):
            fields = pattern.match(name)
            if fields is not None:
                uses.setdefault((i, tuple(sorted(fields.items()))), {})[j] = name
                break
        else:
            unknown.append(name)
    moves, incomplete = [], []
    for (i, pairs), found in uses.items():
        fields = dict(pairs)
        absent = [pattern.fill(fields) for j, pattern in enumerate(patterns[i]) if j not in found]
        if absent:
            incomplete += absent
            continue
        filled = tuple(pattern.fill(fields) for pattern in targets[i])
        moves.append(_Move(tuple(found[j] for j in range(len(patterns[i]))), filled, sides[i][2]))
    return moves, unknown, incomplete


def _shapes(moves: Sequence[_Move], weights: Weights | Mapping[str, Tensor], where: str) -> dict[str, Shape]:
    """Shapes of what the moves make, computed on tensors without data."""
    shapes: dict[str, Shape] = {}
    for move in moves:
        found = [
            weights.shapes[n] if isinstance(weights, Weights) else tuple(weights[n].shape)
            for n in move.sources
        ]
        if move.change is None:
            made = found
        else:
            try:
                result = move.change(*(torch.empty(shape, device="meta") for shape in found))
            except (RuntimeError, ValueError, IndexError) as error:
                raise CheckpointError(
                    f"{where}: tensors do not fit the model: mis-shaped {', '.join(move.sources)}: "
                    f"{', '.join(str(list(shape)) for shape in found)} ({error})"
                ) from error
            made = [tuple(tensor.shape) for tensor in _tuple(result)]
        shapes.update(zip(move.targets, made, strict=True))
    return shapes


def _apply(move: _Move, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    found = [tensors[name] for name in move.sources]
    made = found if move.change is None else _tuple(move.change(*found))
    yield from zip(move.targets, made, strict=True)


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


# --- transformations that several formats need: (read, write) ---


def transposed() -> tuple[Transformation, Transformation]:
    """A matrix that they keep the other way round (Flax's kernels, a projection applied from the right)."""
    return _transpose, _transpose


def _transpose(matrix: Tensor) -> Tensor:
    if matrix.ndim != 2:
        raise ValueError("a matrix has two dimensions")
    return matrix.T.contiguous()


def joined_rows(count: int) -> tuple[Transformation, Transformation]:
    """`count` tensors of theirs, one below the other, as one of ours (query, key and value -> `in_proj`)."""

    def join(*parts: Tensor) -> Tensor:
        return torch.cat(parts)

    def split(joined: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.contiguous() for part in joined.chunk(count))

    return join, split


def interleaved_heads(heads: int, parts: int = 3) -> tuple[Transformation, Transformation]:
    """Rows that they order by head, then part (query, key, value); ours: by part, then head.

    guided-diffusion's legacy attention, and with it GLIDE's and Karlo's own files. For weights
    (parts * D, ...) and biases (parts * D).
    """

    def read(theirs: Tensor) -> Tensor:
        return theirs.unflatten(0, (heads, parts, -1)).transpose(0, 1).flatten(0, 2).contiguous()

    def write(ours: Tensor) -> Tensor:
        return ours.unflatten(0, (parts, heads, -1)).transpose(0, 1).flatten(0, 2).contiguous()

    return read, write
