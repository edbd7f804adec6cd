"""The tables of `unclip plan`, for a person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields

from unclip.train.log import clock
from unclip.train.plan import DAY, GIB, Cluster, Memory, StagePlan, Way

CHOSEN = "*"  # before the way that the recipe says
PARTS = [field.name for field in fields(Memory)]


def text(plans: Sequence[StagePlan], cluster: Cluster) -> str:
    """A plan's tables and its assumptions, in lines."""
    gpu = cluster.gpu
    head = [
        f"{cluster.gpus:,} GPUs of {gpu.memory / GIB:.4g} GiB, {cluster.here} a machine; {cluster.link:g} "
        f"Gbit/s between machines, {gpu.inside:g} GB/s inside",
        f"taken: {gpu.tflops:g} TFLOP/s at the peak, {cluster.utilisation:.0%} of it reached; a GPU fails "
        f"every {cluster.failure_hours:,.0f} hours; checkpoints at {cluster.write:g} GB/s",
        f"{CHOSEN} is what the recipe says (train.parallel, train.gradient_hook)",
    ]
    blocks = ["\n".join(head), *(_stage(one, cluster) for one in plans)]
    if len(plans) > 1:
        days = sum(next((way.days for way in one.ways if way.chosen), math.nan) for one in plans)
        operations = sum(one.total_operations for one in plans)
        blocks.append(f"in all: {operations:.3g} operations, {_days(days)} of stages one after the other")
    return "\n\n".join(blocks)


def _stage(one: StagePlan, cluster: Cluster) -> str:
    again = f", {one.again / one.operations:.0%} of them a second time" if one.again else ""
    lines = [
        f"{one.stage}: {one.parameters / 1e6:,.1f}M parameters; {one.steps:,} steps of {one.batch:,} pictures"
        + (f", each seen {one.views:,.1f} times" if one.views is not None else ""),
        f"  {one.operations:.3g} operations a picture{again}; {one.total_operations:.3g} in all",
        f"  a GPU takes {one.per_gpu:,} at once"
        + (f", {one.accumulate} times" if one.accumulate > 1 else ""),
    ]
    if one.gpus < cluster.gpus:
        lines.append(f"  it uses {one.gpus:,} of the {cluster.gpus:,} GPUs: its batch gives no more a share")
    lines += ["  GiB of a GPU", *_table(["", *PARTS, "total", "fits"], [_memory(way) for way in one.ways])]
    head = ["", "out of a machine", "sent", "inside", "compute", "exchange", "checkpoints", "days"]
    lines += ["  a step", *_table(head, [_time(way) for way in one.ways])]
    lines += [f"  {line}" for line in _advice(one, cluster)]
    return "\n".join(lines)


def _name(way: Way) -> str:
    return f"{CHOSEN if way.chosen else ' '} {way.name}"


def _memory(way: Way) -> list[str]:
    parts = [getattr(way.memory, name) / GIB for name in PARTS]
    fits = "yes" if way.fits else "no" if way.parts is None else f"accumulate={way.parts}"
    return [_name(way), *(f"{part:.2f}" for part in parts), f"{way.memory.total / GIB:.2f}", fits]


def _time(way: Way) -> list[str]:
    return [
        _name(way),
        f"{way.between / 1e9:.3f} GB",
        f"{way.sent:.1%}",
        f"{way.inside / 1e9:.3f} GB",
        f"{way.compute:.3f} s",
        f"{way.exchange:.3f} s",
        f"every {clock(way.interval)}",
        _days(way.days),
    ]


def _days(days: float) -> str:
    if not math.isfinite(days):
        return "never"
    return f"{days:,.1f} days" if days >= 1 else f"{clock(days * DAY)} h"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]
    return [
        "  " + "  ".join((row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])))
        for row in (head, *rows)
    ]


def _advice(one: StagePlan, cluster: Cluster) -> list[str]:
    """Advice where the recipe's way does not fit, and the further needs of a machine."""
    lines = []
    chosen = next((way for way in one.ways if way.chosen), None)
    if chosen is not None and not chosen.fits:
        if chosen.parts is not None:
            lines.append(f"does not fit: --set {one.stage}.train.accumulate={chosen.parts}")
        else:
            others = [way.name for way in one.ways if way.parts is not None]
            there = f"{' or '.join(others)} does" if others else "no way does: more GPUs, or larger ones"
            lines.append(f"{chosen.name} does not fit, however a batch is cut; {there}")
    host = max(way.host for way in one.ways) / GIB
    lines.append(f"while it is set up a machine's own memory holds up to {host:,.0f} GiB of weights")
    return lines
