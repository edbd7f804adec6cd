"""Reads pickles without executing them.

A pickle is a program for a small stack machine, and the usual reader imports and calls whatever it names.
This is another machine for the same programs, whose values are those of `pickle_values`: nothing is ever
imported, and a call that is not known is refused.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from unclip.checkpoints.pickle_values import (
    Record,
    Storage,
    StoredTensor,
    as_key,
    as_set,
    call,
    describe,
    mention,
    new_object,
    refused,
    stored,
)
from unclip.checkpoints.work import Work, extent
from unclip.errors import CheckpointError


@dataclass(frozen=True)
class Pickled:
    """The value that a pickle describes, made of `pickle_values`, and the storages it refers to, by key."""

    value: Any
    storages: dict[str, Storage]


def unpickle(file: IO[bytes], where: str) -> Pickled:
    """Read the pickle at the file's position.

    Args:
        file: anything with `read`, `readline` and `tell`; afterwards it stands behind the pickle.
        where: what the file is called in messages.

    Raises:
        CheckpointError: the pickle is broken, or asks for a call that is not allowed. Nothing was run.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            machine.step(opcode.name, argument)
        return Pickled(machine.result(), machine.storages)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from None
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise CheckpointError(
            f"{where}: not a whole pickle ({error}); download the file again if it should be one"
        ) from error


class _Machine:
    """The stack machine. A step either moves such values or raises."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        self.work = Work()

    def result(self) -> Any:
        """The one value left at the end."""
        (value,) = self.stack
        return value

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction. Raises CheckpointError for one that is not allowed."""
        stack = self.stack
        self.work.spend(1)
        if name in PUSHES:
            self.work.spend(extent(argument))
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name]())
        elif name in PUTS:
            self.memo[len(self.memo) if argument is None else argument] = stack[-1]
        elif name in GETS:
            stack.append(self.memo[argument])
        elif name in TUPLES:
            count = TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in STEPS:
            STEPS[name](self, argument)
        elif name not in NOTHING:
            raise refused(f"uses the instruction {name}")

    def since_mark(self) -> list[Any]:
        """The values above the last mark, which goes with them."""
        values = self.stack
        self.stack = self.marks.pop()
        return values

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def pop_mark(self, _: Any) -> None:
        self.since_mark()

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def push_tuple(self, _: Any) -> None:
        values = self.since_mark()
        self.stack.append(tuple(values))

    def push_list(self, _: Any) -> None:
        values = self.since_mark()
        self.stack.append(values)

    def push_dictionary(self, _: Any) -> None:
        values = self.since_mark()
        self.stack.append(dict(zip(self.keys(values), values[1::2], strict=True)))

    def keys(self, values: list[Any]) -> Iterator[Any]:
        """Of keys and values in turn the keys."""
        return (as_key(key, self.work) for key in values[::2])

    def push_frozenset(self, _: Any) -> None:
        values = self.since_mark()
        self.stack.append(as_set(self.work, values))

    def append(self, _: Any) -> None:
        self.extend([self.stack.pop()])

    def appends(self, _: Any) -> None:
        self.extend(self.since_mark())

    def extend(self, values: list[Any]) -> None:
        """Append to the list on top, or to a record of a class that is a list."""
        target = self.stack[-1]
        if not isinstance(target, (list, Record)):
            raise refused(f"appends to a {describe(target)}")
        (target.items if isinstance(target, Record) else target).extend(values)

    def add_items(self, _: Any) -> None:
        values = self.since_mark()
        if not isinstance(self.stack[-1], set):
            raise refused(f"adds to a {describe(self.stack[-1])}")
        self.stack[-1].update(as_set(self.work, values))

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.update([key, value])

    def set_items(self, _: Any) -> None:
        self.update(self.since_mark())

    def update(self, values: list[Any]) -> None:
        """Set keys of the dictionary on top, or of a record of a class that is one."""
        target = self.stack[-1]
        if not isinstance(target, (dict, Record)):
            raise refused(f"sets items of a {describe(target)}")
        pairs = zip(self.keys(values), values[1::2], strict=True)
        (target.state if isinstance(target, Record) else target).update(pairs)

    def name(self, argument: str) -> None:
        module, name = argument.split(" ", 1)
        self.stack.append(mention(module, name))

    def stack_name(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise refused("names something by what is no text")
        self.stack.append(mention(module, name))

    def reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(call(function, arguments, self.work))

    def new_object(self, _: Any) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        self.stack.append(new_object(kind, arguments, self.work))

    def new_object_with_keywords(self, _: Any) -> None:
        keywords, arguments, kind = self.stack.pop(), self.stack.pop(), self.stack.pop()
        made = new_object(kind, arguments, self.work)
        if isinstance(made, Record):
            made.build(keywords, self.work)
        self.stack.append(made)

    def object(self, _: Any) -> None:
        kind, *arguments = self.since_mark()
        self.stack.append(new_object(kind, tuple(arguments), self.work))

    def instance(self, argument: str) -> None:
        module, name = argument.split(" ", 1)
        arguments = self.since_mark()
        self.stack.append(new_object(mention(module, name), tuple(arguments), self.work))

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.build(state, self.work)
        elif not isinstance(target, (dict, StoredTensor)):  # those two carry metadata that nobody needs
            raise refused(f"sets attributes of a {describe(target)}")

    def persistent(self, _: Any) -> None:
        found = stored(self.stack.pop())
        if isinstance(found, Storage):
            self.storages[found.key] = found
        self.stack.append(found)


NOTHING = {"PROTO", "FRAME", "STOP"}
PUSHES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
GETS = {"GET", "BINGET", "LONG_BINGET"}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    "TUPLE": _Machine.push_tuple,
    "LIST": _Machine.push_list,
    "DICT": _Machine.push_dictionary,
    "FROZENSET": _Machine.push_frozenset,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.add_items,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new_object,
    "NEWOBJ_EX": _Machine.new_object_with_keywords,
    "OBJ": _Machine.object,
    "INST": _Machine.instance,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
