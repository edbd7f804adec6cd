"""Forms that people fill in about pictures, and what they say: sheets without captions, a key apart.

`write` makes a folder of numbered sheets, a blank form (CSV) and the key (JSON), which the reader is not to
see. `score` reads filled forms beside their key.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unclip.errors import InputError
from unclip.evaluate.statistics import Estimate, share
from unclip.runtime import atomic_path
from unclip.sheets import contact_sheet

KEY, FORM = "key.json", "form.csv"
NAMES, PREFER = "names", "prefer"  # the kinds of form
COLUMNS = {NAMES: ("number", "name", "right"), PREFER: ("number", "better")}
PER_SHEET, SHEET_COLUMNS = 60, 10
LEFT, RIGHT, EQUAL = "left", "right", "equal"
YES, NO = ("y", "yes", "1", "true", "right"), ("n", "no", "0", "false", "wrong")
FILLERS = frozenset({"a", "an", "the", "of", "to", "some", "its", "on", "with"})


@dataclass(frozen=True)
class Scores:
    """The answers of one or more readers.

    Attributes:
        kind: `NAMES` or `PREFER`.
        shares: the share that was named right, or that was preferred, by group of prompts, of all readers.
        readers: the same of each reader, all prompts together.
        agreement: share of pictures on which two readers agree, and Cohen's kappa of it; None for one.
        undecided: of names, what no reader's answer was compared with but letter by letter: number, prompt
            and answers, for a person to look at.
        about: what the key says of the pictures.
    """

    kind: str
    shares: Mapping[str, Estimate]
    readers: Mapping[str, Estimate]
    agreement: tuple[float, float] | None
    undecided: Sequence[tuple[int, str, tuple[str, ...]]]
    about: Mapping[str, Any]


def write(
    folder: Path,
    kind: str,
    pictures: Sequence[Image.Image],
    items: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
) -> list[Path]:
    """Write sheets, form and key of pictures in the order of their numbers, from 1 on; each file whole.

    Args:
        folder: is made; forms that are there are replaced.
        kind: of form; names are asked for without the prompts, preferences with them.
        pictures: one for each item.
        items: what the key says of each.
        about: what it says of all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {}
    for start in range(0, len(pictures), PER_SHEET):
        some = pictures[start : start + PER_SHEET]
        numbers = [str(start + k + 1) for k in range(len(some))]
        columns = SHEET_COLUMNS
        if kind == PREFER:
            numbers = [f"{number}: {items[int(number) - 1]['prompt']}" for number in numbers]
            columns //= 2
        buffer = io.BytesIO()
        contact_sheet(some, columns, numbers).save(buffer, "PNG")
        files[f"sheet-{start // PER_SHEET + 1}.png"] = buffer.getvalue()
    text = io.StringIO()
    blank = csv.writer(text, lineterminator="\n")
    blank.writerow(COLUMNS[kind])
    blank.writerows([number, *[""] * (len(COLUMNS[kind]) - 1)] for number in range(1, len(items) + 1))
    files[FORM] = text.getvalue().encode()
    key = {"kind": kind, **about, "items": list(items)}
    files[KEY] = (json.dumps(key, indent=1, ensure_ascii=False) + "\n").encode()
    for name, content in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)
    return [folder / name for name in files]


def score(forms: Sequence[Path], key: Path | None = None) -> Scores:
    """Count the answers of filled forms of one key, which lies beside the first unless it is named.

    A name is right where the column `right` says so ("yes"); where that is empty, where it has the words of
    the prompt, whatever their order, number and articles.

    Raises:
        InputError: a form or the key is missing, of another kind, or has numbers or words that mean nothing.
    """
    if not forms:
        raise InputError("no form given: name one or more that are filled in")
    path = key or forms[0].parent / KEY
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        kind, items = known["kind"], known["items"]
        columns = COLUMNS[kind]
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: name the form's key by --key") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no key of a form: name the right one by --key") from error
    answers = [_read(form, columns, len(items)) for form in forms]
    about = {name: value for name, value in known.items() if name not in ("kind", "items")}
    judged = [_right(rows, items) if kind == NAMES else _first(rows, items) for rows in answers]
    values = np.array(judged, float)  # (readers, N)
    groups = [str(item.get("group", "")) for item in items]
    shares = {"all": _mean(values, range(len(items)))}
    for group in dict.fromkeys(groups):
        if len(set(groups)) > 1:
            shares[group] = _mean(values, [row for row, own in enumerate(groups) if own == group])
    readers = {
        f"{number}: {form.name}": _mean(values[number - 1 : number], range(len(items)))
        for number, form in enumerate(forms, 1)
    }
    undecided = []
    if kind == NAMES:
        for row, item in enumerate(items):
            said = tuple(rows[row][0] for rows in answers)
            if any(text and not decided for text, decided in (rows[row] for rows in answers)):
                undecided.append((row + 1, str(item["prompt"]), said))
    return Scores(kind, shares, readers, _agreement(values), undecided, about)


def _read(form: Path, columns: Sequence[str], count: int) -> list[tuple[str, str]]:
    """(answer, decision) of every number, "" where there is none."""
    try:
        with form.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{form} cannot be read as a form: {error}") from error
    found = [("", "")] * count
    for row in rows:
        number = str(row.get("number") or "").strip()
        if not number.isdecimal() or not 1 <= int(number) <= count:
            raise InputError(f"{form}: number {number!r}, expected 1 to {count}")
        if columns[1] not in row:
            raise InputError(f"{form}: it has no column {columns[1]!r}, as forms of this key have")
        answer, decision = (str(row.get(name) or "").strip() for name in (columns[1], "right"))
        found[int(number) - 1] = answer, decision
    if not any(answer or decision for answer, decision in found):
        raise InputError(f"{form} is blank: fill it in")
    return found


def _right(rows: Sequence[tuple[str, str]], items: Sequence[Mapping[str, Any]]) -> list[float]:
    """1 for what was named right, else 0."""
    found = []
    for number, ((answer, decision), item) in enumerate(zip(rows, items, strict=True), 1):
        told = decision.casefold()
        if told and told not in (*YES, *NO):
            raise InputError(f"number {number}: right is {decision!r}, expected yes, no or nothing")
        texts = [str(item["prompt"]), *map(str, item.get("accepted", ()))]
        same = any(_words(answer) == _words(text) for text in texts) if answer else False
        found.append(float(told in YES if told else same))
    return found


def _words(text: str) -> frozenset[str]:
    """The words of a name without articles and plurals."""
    plain = (re.sub(r"(?<=\w\w)(?:es|s)$", "", word) for word in re.findall(r"\w+", text.casefold()))
    return frozenset(word for word in plain if word not in FILLERS)


def _first(rows: Sequence[tuple[str, str]], items: Sequence[Mapping[str, Any]]) -> list[float]:
    """1 where the first bundle's picture was preferred, 0 the second's, and a half for neither."""
    found = []
    for number, ((answer, _), item) in enumerate(zip(rows, items, strict=True), 1):
        text = answer.casefold()
        if text not in (LEFT, RIGHT, EQUAL, ""):
            raise InputError(f"number {number}: better is {answer!r}, expected {LEFT}, {RIGHT} or {EQUAL}")
        found.append(0.5 if text in (EQUAL, "") else float((text == LEFT) == (item["left"] == "a")))
    return found


def _mean(values: np.ndarray, rows: Sequence[int]) -> Estimate:
    """Share (with Wilson's interval, pictures as trials) over readers (R, N) of some of the pictures."""
    own = values[:, list(rows)].mean(axis=0)  # (M,)
    return share(own, np.arange(len(own)))


def _agreement(values: np.ndarray) -> tuple[float, float] | None:
    """Mean over pairs of readers (R, N): the share of equal answers, and Cohen's kappa."""
    pairs = [(a, b) for a in range(len(values)) for b in range(a + 1, len(values))]
    if not pairs:
        return None
    found = []
    for a, b in pairs:
        equal = float((values[a] == values[b]).mean())
        kinds = np.unique(values)
        chance = sum(float((values[a] == kind).mean() * (values[b] == kind).mean()) for kind in kinds)
        found.append((equal, (equal - chance) / (1 - chance) if chance < 1 else 1.0))
    agreed, kappa = np.mean(found, axis=0).tolist()
    return agreed, kappa
