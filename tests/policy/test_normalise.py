"""Promises of the readings of a prompt: a term is found however it is disguised."""

from __future__ import annotations

import pytest

from unclip.policy.normalise import composed, plain, views


@pytest.mark.parametrize(
    ("disguised", "term"),
    [
        ("PORN", "porn"),
        ("ｐｏｒｎ", "porn"),  # wide letters
        ("p\u200bo\u200brn", "porn"),  # marks of no width
        ("pörn", "poern"),
        ("pórn", "porn"),
        ("рorn", "porn"),  # a Cyrillic letter
        ("p0rn", "porn"),
        ("p o r n", "porn"),
        ("p.o.r.n", "porn"),
        ("p-o-r-n", "porn"),
        ("p 0 r n", "porn"),
        ("poooorn", "porn"),
        ("𝗽𝗼𝗿𝗻", "porn"),  # mathematical letters
        ("Nackt", "nackt"),
        ("Möse", "moese"),
        ("Moese", "moese"),
        ("ㅅㅔㄱㅅㅡ", "섹스"),  # jamo
        ("섹.스", "섹스"),
        ("섹1스", "섹스"),
    ],
)
def test_a_disguised_word_is_read_as_it_is_meant(disguised: str, term: str) -> None:
    assert any(term in view.split() for view in views(f"a picture of {disguised} here"))


@pytest.mark.parametrize("text", ["18번 버스", "a red apple", "route 66", "r2d2", "24h", "네 잎 클로버"])
def test_plain_words_and_numbers_stay_what_they_are(text: str) -> None:
    assert views(text)[0] == plain(text)
    assert "sex" not in " ".join(views(text))


def test_jamo_are_put_together_as_korean_is_written() -> None:
    assert composed("ㅎㅏㄴㄱㅡㄹ") == "한글"
    assert composed("ㄱㅏㅇㄱㅏㄴ") == "강간"
    assert composed("ㅋㅋㅋ") == "ㅋㅋㅋ"


def test_a_phrase_ends_at_a_comma() -> None:
    assert plain("Judith,  and: Holofernes!") == "judith, and, holofernes"
