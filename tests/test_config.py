"""The promise that a config survives the way to a file and back, and that reading it is strict."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unclip.config import MOST_BRACKETS, from_dict, load_json, load_toml, override, to_dict
from unclip.errors import InputError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Round:
    radius: float
    kind: Literal["round"] = "round"


@dataclass(frozen=True)
class Square:
    side: int
    colour: Colour = Colour.RED
    kind: Literal["square"] = "square"


@dataclass(frozen=True)
class Drawing:
    name: str
    shape: Round | Square
    frame: Square | None = None
    size: tuple[int, int] = (64, 64)
    multipliers: tuple[float, ...] = (1.0, 2.0)
    shadow: bool = False
    labels: dict[str, int] = field(default_factory=dict)
    scale: int | float = 1
    folder: Path = Path(".")
    fixed: int = field(default=3, init=False)

    def __post_init__(self) -> None:
        if self.size[0] < 0:
            raise ValueError(f"size is {self.size[0]}, allowed are 0 and more")


numbers = st.floats(allow_nan=False, allow_infinity=False)
rounds = st.builds(Round, radius=numbers)
squares = st.builds(Square, side=st.integers(), colour=st.sampled_from(Colour))
drawings = st.builds(
    Drawing,
    name=st.text(),
    shape=rounds | squares,
    frame=st.none() | squares,
    size=st.tuples(st.integers(min_value=0), st.integers()),
    multipliers=st.lists(numbers).map(tuple),
    shadow=st.booleans(),
    labels=st.dictionaries(st.text(), st.integers()),
    scale=st.integers() | numbers,
    folder=st.sampled_from([Path("a/b"), Path("/c")]),
)


@given(drawings)
def test_a_config_survives_json(drawing: Drawing) -> None:
    again = from_dict(Drawing, json.loads(json.dumps(to_dict(drawing))))
    assert again == drawing
    assert type(again.scale) is type(drawing.scale)


def test_the_dictionary_is_plain() -> None:
    assert to_dict(Drawing("a", Square(2), size=(1, 2), folder=Path("x"))) == {
        "name": "a",
        "shape": {"side": 2, "colour": "red", "kind": "square"},
        "frame": None,
        "size": [1, 2],
        "multipliers": [1.0, 2.0],
        "shadow": False,
        "labels": {},
        "scale": 1,
        "folder": "x",
        "fixed": 3,
    }
    with pytest.raises(TypeError, match="instance"):
        to_dict(Drawing)


def test_defaults_may_be_left_out_and_an_int_will_do_for_a_float() -> None:
    drawing = from_dict(Drawing, {"name": "a", "shape": {"kind": "round", "radius": 1}})
    assert drawing == Drawing("a", Round(1.0))
    assert isinstance(drawing.shape, Round)
    assert isinstance(drawing.shape.radius, float)


GOOD: dict[str, Any] = {"name": "a", "shape": {"kind": "square", "side": 1}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": 1}, "unknown key 'model.nmae': did you mean 'name'"),
        ({"qqq": 1}, "unknown key 'model.qqq': known are name, shape"),
        ({"name": 3}, "model.name: got 3, expected str"),
        ({"shadow": 1}, "model.shadow: got 1, expected bool"),
        ({"size": [1]}, "model.size: got 1 values, expected 2"),
        ({"size": [1, "2"]}, r"model.size\[1\]: got '2', expected int"),
        ({"size": [True, 2]}, r"model.size\[0\]: got True, expected int"),
        ({"size": 3}, "model.size: got 3, expected tuple"),
        ({"multipliers": ["x"]}, r"model.multipliers\[0\]: got 'x', expected float"),
        ({"labels": {"b": "c"}}, "model.labels.b: got 'c', expected int"),
        ({"labels": 3}, "model.labels: got 3, expected a table"),
        ({"scale": "3"}, "model.scale: got '3', expected int or float"),
        ({"fixed": 4}, "model.fixed: got 4, but it is always 3"),
        ({"frame": 3}, "model.frame: got 3, expected a table of Square"),
        ({"shape": None}, "model.shape: got null"),
        ({"shape": 3}, "model.shape: got 3"),
        ({"shape": {"side": 1}}, "missing key 'model.shape.kind': allowed are 'round', 'square'"),
        ({"shape": {"kind": "oval"}}, "model.shape.kind: got 'oval', allowed are 'round', 'square'"),
        ({"shape": {"kind": "square"}}, "missing key 'model.shape.side': Square needs it"),
        ({"shape": {"kind": "square", "side": 1, "radius": 1}}, "unknown key 'model.shape.radius'"),
        (
            {"shape": {"kind": "square", "side": 1, "colour": "pink"}},
            "model.shape.colour: got 'pink', allowed are 'red', 'blue'",
        ),
        ({"frame": {"kind": "round", "side": 1}}, "model.frame.kind: got 'round', allowed are 'square'"),
        ({"size": [-1, 1]}, "model: size is -1, allowed are 0 and more"),
    ],
)
def test_an_error_names_the_dotted_key_and_what_is_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_dict(Drawing, {**GOOD, **change}, "model")


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InputError, match="missing key 'name': Drawing needs it"):
        from_dict(Drawing, {"shape": GOOD["shape"]})
    with pytest.raises(InputError, match="prior: got 3, expected a table of Drawing"):
        from_dict(Drawing, 3, "prior")  # what a file may hold


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-4", 1e-4),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"3"', "3"),
        ("cosine", "cosine"),
        ("a=b", "a=b"),
        ("10,10,3", "10,10,3"),
        ("null", None),
        (" 3 ", 3),
        ("", ""),
        ("3\nother = 4", "3\nother = 4"),
    ],
)
def test_an_override_is_toml_or_a_bare_string(text: str, value: object) -> None:
    assert override({"a": {"b": 0}}, [f"a.b={text}"]) == {"a": {"b": value}}


def test_overrides_leave_the_original_alone_and_the_last_wins() -> None:
    data = {"a": {"b": 0}, "c": 1}
    assert override(data, ["a.b=1", "a.b=2"]) == {"a": {"b": 2}, "c": 1}
    assert data == {"a": {"b": 0}, "c": 1}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("a.b", "write it as key=value"),
        ("=3", "write it as key=value"),
        ("a.bb=3", "unknown key 'a.bb': did you mean 'b'|unknown key 'a.bb': known are b"),
        ("x=3", "unknown key 'x': known are a, c"),
        ("c.d=3", "unknown key 'c.d': 'c' is 1, not a table"),
        ("a.b=[1", "a.b: cannot read"),
    ],
)
def test_a_wrong_override_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        override({"a": {"b": 0}, "c": 1}, [assignment])


def test_toml_files(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('[train]\nname = "빨간 사과"\n', encoding="utf-8")
    assert load_toml(path) == {"train": {"name": "빨간 사과"}}
    path.write_text("a = ")
    with pytest.raises(InputError, match="is not TOML"):
        load_toml(path)
    with pytest.raises(InputError, match="no such file"):
        load_toml(tmp_path / "missing.toml")
    with pytest.raises(InputError, match="cannot read"):
        load_toml(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_a_number_is_finite(value: float) -> None:
    for key, table in (("shape.radius", {"shape": {"radius": value, "kind": "round"}}), ("scale", {})):
        data = {"name": "a", "shape": {"side": 2, "kind": "square"}, **(table or {"scale": value})}
        if key == "scale" and isinstance(value, int):
            continue  # which may be an int of any size
        with pytest.raises(InputError, match=f"{key}: got .*, expected a finite number"):
            from_dict(Drawing, data)


def test_json_files_are_of_a_size_and_a_depth(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"name": "빨간 사과"}', encoding="utf-8")
    assert load_json(path) == {"name": "빨간 사과"}
    for content, message in (
        ("{", r"a.json: cannot be read as JSON \(Expecting"),
        ("[" * 100_000, r"a.json: cannot be read as JSON \(maximum recursion depth"),
        ("[" * 65 + "]" * 65, "nested deeper than 64"),
        ("[" + "[]," * MOST_BRACKETS + "[]]", "more than 2097152 lists and tables"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            load_json(path, largest=2 * len(content))
    with pytest.raises(InputError, match="a.json: more than 100 bytes"):
        load_json(path, largest=100)
    for missing in (tmp_path, tmp_path / "no.json", tmp_path / "a\0b"):
        with pytest.raises(InputError, match="cannot read"):
            load_json(missing)


def test_toml_and_settings_that_are_too_deep_are_refused(tmp_path: Path) -> None:
    deep = "[" * 100_000
    (tmp_path / "recipe.toml").write_text(f"a = {deep}")
    with pytest.raises(InputError, match="is not TOML"):
        load_toml(tmp_path / "recipe.toml")
    with pytest.raises(InputError, match="a: cannot read"):
        override({"a": 0}, [f"a={deep}"])
