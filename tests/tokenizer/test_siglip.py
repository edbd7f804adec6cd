"""Promises of SigLIP's tokenizer: the tokens that transformers gives as open_clip calls it, and refusals."""

from __future__ import annotations

import html
import json
import re
import string
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
from tokenizers import models, normalizers

from reference.siglip import CONTEXT, ROWS, SENTINELS, save_vocabulary
from support.captions import CAPTIONS
from unclip.errors import InputError
from unclip.tokenizer.siglip import SiglipTokenizer, canonical


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vocabulary(tmp_path_factory.mktemp("vocabulary"))


def naive_cleaning(text: str) -> str:
    text = re.sub(
        "[" + re.escape(string.punctuation.replace("_", "")) + "]", "", html.unescape(html.unescape(text))
    )
    return re.sub(r"\s+", " ", text.replace("_", " ").lower()).strip()


def test_a_thousand_captions_have_the_same_tokens(vocabulary: Path) -> None:
    ours = SiglipTokenizer.load(vocabulary)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(vocabulary))
    assert len(CAPTIONS) >= 1000
    cleaned = [naive_cleaning(caption) for caption in CAPTIONS]
    assert cleaned == [canonical(caption) for caption in CAPTIONS]
    settings = {"max_length": CONTEXT, "padding": "max_length", "truncation": True, "return_tensors": "pt"}
    expected = tokenizer(cleaned, **settings)["input_ids"]  # as open_clip calls it
    batch = ours.batch(CAPTIONS, CONTEXT, full=True)
    assert torch.equal(batch.ids, expected)
    cut = [len(ours.encode(caption)) > CONTEXT - 1 for caption in CAPTIONS]
    assert sum(cut) >= 30
    assert [text is not None for text in batch.truncated] == cut
    for caption, text, row in zip(CAPTIONS, batch.truncated, batch.ids.tolist(), strict=True):
        if text is not None:
            assert canonical(caption).endswith(text)
            assert row[-1] == ours.end
    assert (batch.ids == 2).any()  # some letters are unknown


def test_a_row_is_tokens_an_end_and_padding(vocabulary: Path) -> None:
    tokenizer = SiglipTokenizer.load(vocabulary)
    assert (tokenizer.end, tokenizer.start, tokenizer.pad, tokenizer.vocabulary) == (1, 1, 1, ROWS)
    batch = tokenizer.batch(["", "a red apple"], CONTEXT)
    apple = tokenizer.encode("A_red, APPLE!")
    assert batch.ids.tolist() == [[1] * (len(apple) + 1), [*apple, 1]]
    assert batch.mask.sum(1).tolist() == [1, len(apple) + 1]
    assert tokenizer.batch([""], CONTEXT).ids.tolist() == [[1]]
    assert tokenizer.batch(["</s>"], CONTEXT).ids.tolist() == [[*tokenizer.encode("s"), 1]]
    for texts, context in (([], CONTEXT), (["a"], 1)):
        with pytest.raises(InputError):
            tokenizer.batch(texts, context)


def test_no_text_reaches_an_id_that_the_model_has_no_row_for(vocabulary: Path) -> None:
    tokenizer = SiglipTokenizer.load(vocabulary)
    full_width = "".join(chr(ord(letter) + 0xFEE0) for letter in SENTINELS[0])
    for text in (SENTINELS[0], full_width, f"a {full_width} b"):
        assert max(tokenizer.encode(text)) < ROWS


def test_a_tokenizer_is_saved_with_its_padding(vocabulary: Path, tmp_path: Path) -> None:
    tokenizer = SiglipTokenizer.load(vocabulary)
    tokenizer.save(tmp_path / "saved.json")
    again = SiglipTokenizer.load(tmp_path / "saved.json")
    assert (again.end, again.pad, again.vocabulary) == (tokenizer.end, tokenizer.pad, tokenizer.vocabulary)
    assert torch.equal(again.batch(CAPTIONS, 64).ids, tokenizer.batch(CAPTIONS, 64).ids)


def test_gemmas_kind_of_tokenizer_is_read(tmp_path: Path) -> None:
    """Byte-pair merges, unknown letters by their bytes, and a padding that is not the end."""
    words = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", "a", "b", "ab", "▁ab", "<start_of_image>"]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(
            vocab={word: i for i, word in enumerate(words)},
            merges=[("a", "b"), ("▁", "ab")],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_image>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings = {"eos_token": "<eos>", "pad_token": "<pad>", "add_bos_token": False, "add_eos_token": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    ours = SiglipTokenizer.load(tmp_path)
    ids = {word: i for i, word in enumerate(words)}
    assert ours.vocabulary == ids["▁ab"] + 1
    euro = [ids[f"<0x{byte:02X}>"] for byte in "€".encode()]
    batch = ours.batch(["Ab ab €", "b"], 16)
    assert batch.ids.tolist()[0] == [ids["ab"], ids["▁ab"], ids["▁"], *euro, 1]
    assert batch.ids.tolist()[1] == [ids["b"], 1, 0, 0, 0, 0, 0]
    for change, message in (
        ({"add_bos_token": True}, "have an end and no start"),
        ({"add_eos_token": False}, "have an end and no start"),
        ({"pad_token": "<nothing>"}, "pad_token is '<nothing>', which the vocabulary does not have"),
        ({"eos_token": None}, "eos_token is None"),
    ):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | change))
        with pytest.raises(InputError, match=message):
            SiglipTokenizer.load(tmp_path)


def test_what_is_no_such_tokenizer_is_refused(vocabulary: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a tokenizer"):
        SiglipTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((vocabulary / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match=r"tokenizer_config.json: needed to know how texts end"):
        SiglipTokenizer.load(tmp_path)
    with pytest.raises(InputError, match="how it is padded: give its folder"):
        SiglipTokenizer.load(tmp_path / "tokenizer.json")
    bare = tokenizers.Tokenizer(models.Unigram([("</s>", 0.0), ("a", -1.0)]))
    bare.save(str(tmp_path / "tokenizer.json"))
    settings = {"eos_token": "</s>", "pad_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="has no token <unk>"):
        SiglipTokenizer.load(tmp_path)
