"""Promises of CLIP's tokenizer: OpenAI's ids, from every layout that its vocabulary is published in."""

from __future__ import annotations

import gzip
import hashlib
import json
import unicodedata
from pathlib import Path

import pytest

from unclip.errors import InputError
from unclip.tokenizer import CLIP_END, CLIP_START, CLIP_VOCABULARY, SHIPPED_VOCABULARY, CLIPTokenizer
from unclip.tokenizer.clip import byte_alphabet
from unclip.tokenizer.repairs import repaired

LETTERS = "5330684ce34ef083f3c90fca298e84496f937e8cde8e0e4176c2162f5f58db65"  # see the test of every letter


@pytest.fixture(scope="module")
def merges_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file laid out as OpenAI's, whose first merges are real words and whose rest are fillers."""
    alphabet = byte_alphabet()
    merges = ["a p", "ap p", "l e</w>", "app le</w>", "r e", "re d</w>"]
    known = set(merges)
    for first in alphabet:
        for second in alphabet:
            for end in ("", "</w>"):
                merge = f"{first} {second}{end}"
                if merge not in known and len(merges) < CLIP_VOCABULARY - 514:
                    merges.append(merge)
    path = tmp_path_factory.mktemp("clip") / "bpe_simple_vocab_16e6.txt.gz"
    path.write_bytes(gzip.compress(("#version: 0.2\n" + "\n".join(merges) + "\nx y\n").encode()))
    return path


@pytest.fixture(scope="module")
def clip(merges_file: Path) -> CLIPTokenizer:
    return CLIPTokenizer.load(merges_file)


def test_ids_are_openais(clip: CLIPTokenizer) -> None:
    """49406 and 49407 are the ids of OpenAI's file; bytes come first in GPT-2's order, then merges."""
    assert (clip.pad, clip.start, clip.end, clip.context) == (0, 49406, 49407, 77)
    assert clip.vocabulary == 49408
    assert clip.encode("!") == [256]  # "!" ends a word, so it is "!</w>"
    assert clip.encode("Apple  RED") == [512 + 3, 512 + 5]
    assert clip.encode("red&amp;amp;red") == [517, ord("&") - ord("!") + 256, 517]


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        ("a cat\u2019s \u201chat\u201d", [320, 2368, 568, 257, 3801, 257]),
        ("it\u02bcs \u2018yes\u201b", [585, 568, 262, 1958, 262]),
        ("\ufeffa red apple", [320, 736, 3055]),
        ("a\x00b\x07c", [5334]),
        ("\x1b[31mred\x1b[0m", [736]),
        ("\ufb01sh \uff21\uff22\uff11\uff12", [2759, 3937, 272, 273]),
        ("it&rsquo;s", [585, 568]),
        ("&lt;b&gt; it&rsquo;s <", [283, 321, 285, 585, 728, 503, 338, 283]),  # HTML, to ftfy
        ("\x85 \x93x\x94", [959, 257, 343, 257]),  # Windows-1252
        ("a \u2013 b", [320, 1224, 321]),  # dashes have tokens of their own, and ftfy leaves them
    ],
)
def test_what_phones_write_is_read_as_openai_reads_it(written: str, ids: list[int]) -> None:
    """Frozen: ids of openai/CLIP's SimpleTokenizer with ftfy 6.3.1, for the published vocabulary."""
    assert CLIPTokenizer.load(SHIPPED_VOCABULARY).encode(written) == ids


def test_every_letter_is_repaired_as_ftfy_does() -> None:
    """Frozen: SHA-256 over ftfy 6.3.1's `fix_text` of each letter up to U+FFFF between two others."""
    letters = (chr(code) for code in range(0x20, 0x10000) if not 0xD800 <= code < 0xE000)
    fixed = (unicodedata.normalize("NFC", repaired(f"a{letter}b")) for letter in letters)
    digest = hashlib.sha256()
    for text in fixed:
        digest.update(" ".join(text.split()).encode() + b"\n")
    assert digest.hexdigest() == LETTERS


def test_special_tokens_in_a_prompt_are_text(clip: CLIPTokenizer) -> None:
    assert clip.end not in clip.encode(f"an {CLIP_END} apple")
    assert clip.start not in clip.encode(f"an {CLIP_START} apple")


def test_padding_is_zero_and_a_cut_text_has_its_end(clip: CLIPTokenizer) -> None:
    tokens = clip.batch(["red " * 100, "red"], context=77)
    assert tokens.ids.shape == (2, 77)
    assert tokens.ids[0, -1] == clip.end
    assert tokens.ids[1, :4].tolist() == [49406, 517, 49407, 0]
    assert tokens.truncated[0] == ("red " * 25).strip()
    assert tokens.truncated[1] is None


def test_all_three_layouts_are_read(clip: CLIPTokenizer, merges_file: Path, tmp_path: Path) -> None:
    saved = tmp_path / "tokenizer.json"
    clip.save(saved)
    folder = tmp_path / "huggingface"
    folder.mkdir()
    model = json.loads(saved.read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = gzip.decompress(merges_file.read_bytes()).decode().split("\n")[: 1 + CLIP_VOCABULARY - 514]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    alone = tmp_path / "newer"
    alone.mkdir()
    padded = json.loads(saved.read_text()) | {"padding": None, "truncation": None}
    (alone / "tokenizer.json").write_text(json.dumps(padded))
    for path in (saved, folder, alone):
        again = CLIPTokenizer.load(path)
        for text in ("a red apple!", "It's 2024 &amp; 빨간 <|endoftext|>"):
            assert again.encode(text) == clip.encode(text)


def test_other_files_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "merges.gz"
    other.write_bytes(gzip.compress(b"#version\na b\n"))
    with pytest.raises(InputError, match="holds"):
        CLIPTokenizer.load(other)
    other.write_bytes(b"plain")
    with pytest.raises(InputError, match="not CLIP's merges"):
        CLIPTokenizer.load(other)
    with pytest.raises(InputError, match=r"vocab\.json"):
        CLIPTokenizer.load(tmp_path)
