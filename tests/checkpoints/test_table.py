"""Promises of the key tables: both directions agree, and nothing is passed over in silence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unclip.checkpoints.table import Rule, Table, interleaved_heads, joined_rows, transposed
from unclip.errors import CheckpointError

TABLE = Table(
    (
        Rule(
            "block.{i}.qkv.{name}",
            tuple(f"layers.{{i}}.{letter}.{{name}}" for letter in "qkv"),
            *joined_rows(3),
        ),
        Rule("proj", "proj.weight", *transposed()),
        Rule("text.{rest*}", "model.text.{rest*}"),
        Rule("conv{n}.weight", "c.{n}.weight"),
    ),
    ignored=("{any*}.position_ids", "mask"),
)
THEIRS = {
    **{
        f"layers.{i}.{letter}.weight": torch.full((2, 3), 10.0 * i + j)
        for i in (0, 1)
        for j, letter in enumerate("qkv")
    },
    "proj.weight": torch.arange(6.0).view(2, 3),
    "model.text.a.b.weight": torch.ones(4),
    "c.7.weight": torch.ones(5),
    "model.position_ids": torch.arange(3),
    "mask": torch.ones(2),
}
SHAPES = {"block.0.qkv.weight": (6, 3), "block.1.qkv.weight": (6, 3), "proj": (3, 2)}
SHAPES |= {"text.a.b.weight": (4,), "conv7.weight": (5,)}


def test_reading_and_writing_undo_each_other() -> None:
    ours = dict(TABLE.read(THEIRS, SHAPES, "file"))
    assert ours["block.1.qkv.weight"][:, 0].tolist() == [10, 10, 11, 11, 12, 12]
    assert torch.equal(ours["proj"], THEIRS["proj.weight"].T)
    back = TABLE.write(ours)
    assert back.keys() == THEIRS.keys() - {"model.position_ids", "mask"}
    assert all(torch.equal(tensor, THEIRS[name]) for name, tensor in back.items())


def test_shapes_are_told_without_being_strict() -> None:
    assert TABLE.shapes({**THEIRS, "stranger": torch.ones(1)}, "file") == SHAPES


def test_every_problem_is_named_at_once() -> None:
    theirs: dict[str, Tensor] = {**THEIRS, "stranger.weight": torch.ones(1), "c.7.weight": torch.ones(6)}
    del theirs["layers.1.k.weight"]
    shapes = {name: shape for name, shape in SHAPES.items() if name != "text.a.b.weight"} | {"absent": (1,)}
    with pytest.raises(CheckpointError) as caught:
        next(TABLE.read(theirs, shapes, "file"))
    message = str(caught.value)
    assert message.startswith("file: tensors do not fit the model: unknown stranger.weight; ")
    assert "missing layers.1.k.weight, block.1.qkv.weight, absent" in message
    assert "without a place in the model text.a.b.weight" in message
    assert "mis-shaped conv7.weight is [6] and should be [5]" in message


def test_a_shape_that_a_transformation_cannot_take_is_named() -> None:
    with pytest.raises(
        CheckpointError, match=r"mis-shaped proj.weight: \[2\] \(a matrix has two dimensions\)"
    ):
        next(TABLE.read({**THEIRS, "proj.weight": torch.ones(2)}, SHAPES, "file"))


def test_writing_is_strict_too() -> None:
    with pytest.raises(CheckpointError, match="the model: tensors do not fit the model: unknown stranger"):
        TABLE.write({"stranger": torch.ones(1)})
    only_read = Table((Rule("a", "b", torch.neg),))
    with pytest.raises(CheckpointError, match="only read"):
        only_read.write({"a": torch.ones(1)})


def test_heads_that_take_turns_are_put_in_order_and_back() -> None:
    read, write = interleaved_heads(2)
    theirs = torch.arange(12)  # head 0: q q k k v v, head 1: q q k k v v
    assert read(theirs).tolist() == [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]
    matrix = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(write(read(matrix)), matrix)


def test_a_rule_that_cannot_work_is_refused_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="must have the same fields"):
        Rule("a.{i}", "b.{j}")
    with pytest.raises(ValueError, match="several names need a transformation"):
        Rule("a", ("b", "c"))
