"""Promises of queries: how they are read, and what filters let through."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from PIL import Image

from unclip.errors import InputError
from unclip.search.query import Filters, Term, check, day, parse


@pytest.fixture(autouse=True)
def _beside_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("photo.jpg")


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("a beach", [Term("a beach")]),
        ('"a beach"', [Term("a beach")]),
        ("해변의 개", [Term("해변의 개")]),
        ("photo.jpg", [Term(Path("photo.jpg"))]),
        ('"photo.jpg"', [Term("photo.jpg")]),
        ("black-and-white c++", [Term("black-and-white c++")]),
        (
            '"a beach" + photo.jpg - "people"',
            [Term("a beach"), Term(Path("photo.jpg")), Term("people", wanted=False)],
        ),
        ("a beach  -  people", [Term("a beach"), Term("people", wanted=False)]),
        ("- people + 'a - b'", [Term("people", wanted=False), Term("a - b")]),
        ("it's a dog", [Term("it's a dog")]),
    ],
)
def test_a_query_is_texts_and_pictures_with_signs(query: str, terms: list[Term]) -> None:
    assert parse(query) == tuple(terms)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "cannot read the query"),
        ("  ", "cannot read the query"),
        ('""', "cannot read the query"),
        ('"a beach', "is not closed"),
        ("- people", "only says what is not wanted"),
        ("gone.png", "no such picture: gone.png"),
        ('"a" + ', "cannot read the query"),
        ('"a" "b"', "is not closed"),
    ],
)
def test_what_cannot_be_read_is_said(query: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(query)
    assert message in str(caught.value)


def test_terms_can_be_made_in_python() -> None:
    picture = Image.new("RGB", (4, 4))
    terms = check([Term(picture), Term("people", wanted=False)])
    assert [term.is_text for term in terms] == [False, True]
    with pytest.raises(InputError, match="the query is empty"):
        check([Term(" ")])


def test_a_day_may_be_a_month_or_a_year() -> None:
    assert day("2024-05-31") == date(2024, 5, 31)
    assert day("2024-05") == date(2024, 5, 1)
    assert day("2024") == date(2024, 1, 1)
    for wrong in ("yesterday", "2024-13", "31.5.2024", ""):
        with pytest.raises(InputError, match="is no date"):
            day(wrong)


def test_filters_that_allow_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="no day is in between"):
        Filters(since=date(2024, 2, 1), until=date(2024, 1, 1))
    with pytest.raises(InputError, match="no size is in between"):
        Filters(least_size=200, most_size=100)
    for wrong in ("wide", "16:0", "16/9"):
        with pytest.raises(InputError, match="unknown aspect"):
            Filters(aspect=wrong)
