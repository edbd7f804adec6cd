"""Promises of translation: prompts go through a program of one's own, and what fails is said in one line."""

from __future__ import annotations

import pickle
import sys
import time
from pathlib import Path

import pytest

import unclip
from support.pictures import same, speckled
from unclip.errors import InputError, UnclipError
from unclip.images import read_metadata
from unclip.translation import LONGEST, Translator

WORDS = {"빨간 사과": "a red apple", "ein grüner Apfel": "a green apple", "": ""}


def program(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_program_gets_one_prompt_a_line_and_gives_one_a_line() -> None:
    upper = program("import sys\nfor line in sys.stdin: print(line.strip().upper())")
    assert Translator(upper)(["a red  apple", "zwei\nÄpfel"]) == ["A RED APPLE", "ZWEI ÄPFEL"]
    assert Translator(lambda text: text[::-1])(["abc", "d"]) == ["cba", "d"]
    assert Translator(program("print('a'); print('red apple')"))(["x"]) == ["a red apple"]


def test_no_shell_reads_the_command_unless_it_is_asked_for() -> None:
    assert Translator("printf '%s' '$HOME; echo'")(["x"]) == ["$HOME; echo"]
    assert Translator("sh -c 'tr a-z A-Z | tr A B'")(["apple"]) == ["BPPLE"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "is empty"),
        ("sed 's/a/b", "cannot be read: no closing quotation"),
        ("no-such-program --now", "'no-such-program' is no program that is here; a shell is had by sh -c"),
    ],
)
def test_a_command_that_is_none_is_refused_before_anything_is_drawn(command: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Translator(command)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; print('no\\nmodel', file=sys.stderr); sys.exit(3)", "failed with exit code 3: model"),
        ("raise SystemExit(1)", "failed with exit code 1: it does not say why"),
        ("print('one')", "wrote 1 lines for 2 prompts"),
        ("print('one'); print(); print(' ')", "for 2 prompts|no text to draw"),
        ("import os; os.write(1, b'\\xff\\n\\xff\\n')", "did not write UTF-8"),
        ("while True: print('x' * 9999)", "wrote more than 1048576 bytes"),
        (f"print('x' * {LONGEST + 1}); print('y')", "gave 2001 characters"),
        ("import time; time.sleep(60)", "took more than 1 seconds"),
        ("import os, time; os.close(1); os.close(2); time.sleep(60)", "took more than 1 seconds"),
        ("import subprocess; subprocess.Popen(['sleep', '60'])", "took more than 1 seconds"),
    ],
)
def test_a_program_that_fails_is_one_clear_line(code: str, message: str) -> None:
    started = time.monotonic()
    with pytest.raises(UnclipError, match=message):
        Translator(program(code), seconds=1.0 if "1 seconds" in message else 30.0)(["a", "b"])
    assert time.monotonic() - started < 30


def test_pictures_are_of_the_translation_and_keep_both_texts(tiny_bundle: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def translate(text: str) -> str:
        asked.append(text)
        return WORDS[text]

    plain = unclip.load(tiny_bundle, device="cpu", precision="float32")
    model = unclip.load(tiny_bundle, device="cpu", precision="float32", translate=translate)
    drawn = model.generate(list(WORDS)[:2], size=64, seed=3)
    expected = plain.generate(["a red apple", "a green apple"], size=64, seed=3)
    assert all(map(same, drawn, expected))
    assert [picture.prompt for picture in drawn] == ["빨간 사과", "ein grüner Apfel"]
    found = read_metadata(drawn[0].save(tmp_path / "apple.png"))
    assert (found["prompt"], found["translation"]) == ("빨간 사과", "a red apple")
    model.generate("빨간 사과", size=64, seed=4)
    assert asked == list(WORDS)[:2]  # each once
    (again,) = plain.like(tmp_path / "apple.png")  # without a translator
    assert same(again, drawn[0])
    assert again.metadata == drawn[0].metadata


def test_every_verb_with_a_prompt_goes_through_the_translator(tiny_bundle: Path) -> None:
    plain = unclip.load(tiny_bundle, device="cpu", precision="float32")
    model = unclip.load(tiny_bundle, device="cpu", precision="float32", translate=WORDS.__getitem__)
    picture, mask = speckled(64), speckled(64).convert("L").point(lambda level: 255 if level > 99 else 0)
    edited = model.edit(picture, mask, "빨간 사과", size=64, seed=1, steps=3)
    assert same(edited[0], plain.edit(picture, mask, "a red apple", size=64, seed=1, steps=3)[0])
    assert edited[0].settings["translation"] == "a red apple"
    restyled = model.restyle(picture, "", "빨간 사과", seed=1, steps=3, size=64)
    assert same(restyled[0], plain.restyle(picture, "", "a red apple", seed=1, steps=3, size=64)[0])
    assert restyled[0].settings["to_translation"] == "a red apple"
    wider = model.outpaint(picture, "빨간 사과", right=32, seed=1, steps=3, size=64)
    assert same(wider[0], plain.outpaint(picture, "a red apple", right=32, seed=1, steps=3, size=64)[0])


def test_a_model_with_a_command_is_copied_with_it(tiny_bundle: Path) -> None:
    model = unclip.load(tiny_bundle, device="cpu", precision="float32", translate="cat")
    copy = pickle.loads(pickle.dumps(model))
    assert copy.translator == model.translator
