"""Texts as term lists can be compared with them, however they were disguised.

A text has several views: as it is, with digits read as letters, with letters that stand apart drawn together,
with letters that are repeated taken once, and Korean letters (jamo) put together to syllables. A term that
one of them holds was written, whatever else the text may say.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

# Letters of other alphabets that look like Latin ones. Source: the commonest of Unicode's confusables.txt.
HOMOGLYPHS = str.maketrans(
    "абвгеёікмнорстухыьѕјԁԛԝһӏαβγδεηικμνορστυχωƖɡɑıոսցⅼ",
    "abbreeikmhopctyxybsjdqwhlabydenikmvopotuxwlgainugl",
)
LEET = str.maketrans({"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g"})
SIGNS = str.maketrans({"@": "a", "$": "s", "!": "i", "|": "i", "€": "e", "+": "t", "¡": "i", "£": "l"})
UMLAUTS = {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "ø": "oe", "œ": "oe"}
STOPS = re.compile(r"\s*[,;:.!?\n()\[\]\"“”„]+\s*")  # where a phrase ends
BETWEEN = re.compile(r"[^\w,]+|_+")
APART = re.compile(r"(?<!\w)(?:[^\W\d_][\s.*_\-~·,|/]{1,3}){2,}[^\W\d_](?!\w)")
SIGNS_APART = re.compile(r"(?<!\w)(?:[a-z0-9@$!][\s.*_\-~·,|/]{1,3}){2,}[a-z0-9@$!](?!\w)")
HANGUL_APART = re.compile(r"(?<![가-힣])(?:[가-힣][\s.*_\-~·,|/^]{0,3}(?![가-힣]{2})){2,}(?![가-힣])")
WITHIN_HANGUL = re.compile(r"(?<=[가-힣])[0-9.*_\-~·^!@#|/'`ㅡ]+(?=[가-힣])")
REPEATED = re.compile(r"([a-z])\1{2,}")

LEADS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
TAILS = " ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
JAMO = re.compile("[ㄱ-ㅣ]")
SYLLABLES = 0xAC00  # "가"


def plain(text: str) -> str:
    """A text in small letters of normal width, without accents and marks of no width; umlauts as ae, oe, ue.

    Words are divided by one blank, and a comma with a blank stands for every sign at which a phrase ends.
    """
    text = _lettered(text)
    text = STOPS.sub(", ", text)
    return BETWEEN.sub(" ", text).replace(" ,", ",").strip(" ,")


def _lettered(text: str) -> str:
    """As `plain`, with all signs between words."""
    # compatibility forms of jamo would become halves of syllables
    text = "".join(one if JAMO.match(one) else unicodedata.normalize("NFKC", one) for one in text)
    text = unicodedata.normalize("NFC", text).casefold()
    text = "".join(
        UMLAUTS.get(one, one)
        for one in text
        if unicodedata.category(one) not in ("Cf", "Cc") or one in "\n\t"
    )
    apart = (one if "가" <= one <= "힣" else unicodedata.normalize("NFD", one) for one in text)
    return "".join(one for piece in apart for one in piece if unicodedata.category(one) != "Mn").translate(
        HOMOGLYPHS
    )


def views(text: str) -> tuple[str, ...]:
    """The different readings of a text, each as `plain`; the first is the text itself."""
    return tuple(dict.fromkeys(filter(None, _views(text))))


def _views(text: str) -> Iterator[str]:
    yield plain(text)
    lettered = _lettered(text)
    read = _leet(lettered)
    yield plain(read)
    yield plain(APART.sub(lambda match: re.sub(r"[\W_]", "", match[0]), lettered))
    yield plain(APART.sub(lambda match: re.sub(r"[\W_]", "", match[0]), read))
    yield plain(_leet(SIGNS_APART.sub(lambda match: re.sub(r"[^a-z0-9@$!]", "", match[0]), lettered)))
    yield plain(REPEATED.sub(r"\1", read))
    if JAMO.search(text):
        yield plain(composed(lettered))
    if re.search("[가-힣]", lettered):
        yield plain(WITHIN_HANGUL.sub("", composed(lettered)))
        yield plain(HANGUL_APART.sub(lambda match: f" {re.sub(r'[^가-힣]', '', match[0])} ", lettered))


def _leet(text: str) -> str:
    """Digits and signs as letters, in words that hold letters as well."""

    def read(match: re.Match[str]) -> str:
        word = match[0]
        if not re.search("[a-z]", word) or re.fullmatch(r"\d+[a-z]{0,2}[!|+]*|[a-z]\d+|[a-z]+[!|+]*", word):
            return word
        return word.translate(SIGNS).translate(LEET)

    return re.sub(r"[\w@$!|€+¡£]+", read, text)


def composed(text: str) -> str:
    """Korean letters that stand one by one (ㅎㅏㄴㄱㅡㄹ), put together to syllables (한글)."""
    out: list[str] = []
    i = 0
    while i < len(text):
        lead, vowel = text[i], text[i + 1 : i + 2]
        if lead in LEADS and vowel and vowel in VOWELS:
            tail = text[i + 2 : i + 3]
            after = text[i + 3 : i + 4]
            closes = bool(tail.strip()) and tail in TAILS and not (after and after in VOWELS)
            code = (LEADS.index(lead) * len(VOWELS) + VOWELS.index(vowel)) * len(TAILS)
            out.append(chr(SYLLABLES + code + (TAILS.index(tail) if closes else 0)))
            i += 3 if closes else 2
        else:
            out.append(lead)
            i += 1
    return "".join(out)
