"""SigLIP's tokenizers: the sentencepiece vocabularies of T5, mT5 and Gemma, as open_clip applies them.

Texts lose ASCII punctuation and capitals first (big_vision's `canonicalize`); there is no start, every text
ends with "</s>" (Gemma's is "<eos>"), and the padding behind it is read by the model: "</s>" again with T5's
and mT5's, "<pad>" with Gemma's. The vocabulary is a `tokenizer.json`, in which both ids are kept as well.
"""

from __future__ import annotations

import base64
import html
import json
import re
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import tokenizers
from tokenizers import processors

from unclip.config import load_json
from unclip.errors import InputError, shown
from unclip.runtime import atomic_path
from unclip.tokenizer import Tokens
from unclip.tokenizer.tokens import MOST_IDS, TOKENIZER_FILE, judged, padded, read_json

SETTINGS = "tokenizer_config.json"
UNKNOWN = "<unk>"
PROBE = "a red apple, ein Fuß, 빨간 사과 ① ﬁ"
NO_PUNCTUATION = str.maketrans("_", " ", string.punctuation.replace("_", ""))
# What published vocabularies do to a text before it is cut up. Others' regular expressions may take for ever.
OWN = ("version", "added_tokens", "normalizer", "pre_tokenizer", "model")
STEPS = (
    *("Sequence", "Precompiled", "Replace", "Prepend", "Strip", "Lowercase", "NFC", "NFD", "NFKC", "NFKD"),
    *("Metaspace", "WhitespaceSplit", "Split"),
)
PATTERNS = ({"String": " "}, {"Regex": " {2,}"}, {"Regex": r"\s+"})
MOST_STEPS = 8
LONGEST_CONTENT = 1  # letters that are put in place of others
LARGEST_FORMS = 2**22  # letters of a table of forms; that of NFKC has some 300,000
LONGEST_FORM = 256  # bytes that a letter becomes in it
BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # what Gemma spells letters with that it has no token for


class SiglipTokenizer:
    """A `tokenizers.Tokenizer` with SigLIP's cleaning, end and padding; see `unclip.tokenizer.Tokenizer`.

    Ids that no text can have (sentinels such as "<extra_id_0>") are not counted in `vocabulary`: the model
    has no rows for them.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, end: int, pad: int, unknown: int) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True  # "</s>" in a prompt is text, not an order
        ends = tokenizer.id_to_token(end)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {ends}", special_tokens=[(ends, end)]
        )
        self._tokenizer = tokenizer
        self._unknown = unknown
        self.end = self.start = end  # nothing stands before a text
        self.pad = pad
        self.vocabulary = 1 + max(
            index
            for token, index in tokenizer.get_vocab(with_added_tokens=True).items()
            if index in (end, pad, self._unknown) or _can_be_written(token)
        )

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone, without the end, of any length."""
        return self._ids(canonical(text))[0]

    def _ids(self, text: str) -> tuple[list[int], list[int]]:
        """Ids, and where in the text each begins."""
        with judged("the bundle's tokenizer", quiet=False):
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        # full-width letters become ASCII inside the tokenizer, so a sentinel may be spelled after all
        ids = [index if index < self.vocabulary else self._unknown for index in encoding.ids]
        return ids, [start for start, _ in encoding.offsets]

    def batch(self, texts: Sequence[str], context: int, full: bool = False) -> Tokens:
        """As `Tokenizer.batch`; what was cut off is told without its punctuation and capitals."""
        if not texts:
            raise InputError("a batch of no texts: give at least one")
        if context < 2:
            raise InputError(f"context {context} is too short: one token and end need 2")
        rows: list[list[int]] = []
        truncated: list[str | None] = []
        room = context - 1
        for text in texts:
            clean = canonical(text)
            ids, starts = self._ids(clean)
            truncated.append(clean[starts[room] :].strip() if len(ids) > room else None)
            rows.append([*ids[:room], self.end])
        length = context if full else max(map(len, rows))
        return Tokens(*padded(rows, self.pad, length), tuple(truncated))

    def save(self, path: Path) -> None:
        """Write one file that `load` reads: the vocabulary, with the padding in it."""
        own = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        own.enable_padding(pad_id=self.pad, pad_token=own.id_to_token(self.pad))
        with atomic_path(Path(path)) as temporary:
            temporary.write_text(own.to_str(), encoding="utf-8")

    def save_folder(self, folder: Path, context: int) -> None:
        """Write what Hugging Face's libraries, and with them open_clip, open as a tokenizer."""
        (folder / TOKENIZER_FILE).write_text(self._tokenizer.to_str(), encoding="utf-8")
        ends, pads = (self._tokenizer.id_to_token(index) for index in (self.end, self.pad))
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": ends,
            "pad_token": pads,
            "unk_token": UNKNOWN,
            "model_max_length": context,
            "clean_up_tokenization_spaces": False,
        }
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a published tokenizer.

        Args:
            path: a folder with `tokenizer.json` and `tokenizer_config.json`, or a file that `save` wrote.

        Raises:
            InputError: nothing there, or not a tokenizer of this kind.
        """
        path = Path(path)
        file = path / TOKENIZER_FILE if path.is_dir() else path
        try:
            about = read_json(file)
            for part in ("normalizer", "pre_tokenizer"):
                kinds = [_checked(step, part) for step in _steps(about.get(part))]
                if len(kinds) > MOST_STEPS or kinds.count("Precompiled") > 1:
                    raise InputError(f"{part} has the steps {shown(kinds)}")
            _check_words(about)
        except InputError as error:
            raise InputError(f"{file}: not a tokenizer of this kind ({error})") from error
        with judged(file):
            # how a text ends and is padded is said once more below
            own = {key: about[key] for key in OWN if key in about}
            tokenizer = tokenizers.Tokenizer.from_str(json.dumps(own))
        end, pad = _said(path / SETTINGS, tokenizer) if path.is_dir() else _kept(about, file)
        if (unknown := tokenizer.token_to_id(UNKNOWN)) is None:
            raise InputError(f"{file}: has no token {UNKNOWN} for letters that it does not know")
        if tokenizer.id_to_token(end) is None or tokenizer.id_to_token(pad) is None:
            raise InputError(f"{file}: texts end with {end} and are padded with {pad}: no such ids")
        with judged(file):  # a table of forms may only break when it is used
            tokenizer.encode(PROBE)
        return cls(tokenizer, end, pad, unknown)


def _steps(step: Any) -> Iterator[Any]:
    """A step, and those that it is made of."""
    if step is not None:
        yield step
    for key in ("normalizers", "pretokenizers") if isinstance(step, dict) else ():
        inner = step.get(key)
        for one in inner if isinstance(inner, list) else ():
            yield from _steps(one)


def _checked(step: Any, where: str) -> str:
    """The kind of a step. Raises InputError for what no published vocabulary does to a text."""
    kind = step.get("type") if isinstance(step, dict) else None
    if kind not in STEPS:
        raise InputError(f"{where} is {shown(step)}, known are {', '.join(STEPS)}")
    if step.get("pattern", PATTERNS[0]) not in PATTERNS:
        raise InputError(f"{where} looks for {shown(step['pattern'])}, known are {shown(PATTERNS)}")
    for key in ("content", "prepend", "replacement"):
        if len(str(step.get(key, ""))) > LONGEST_CONTENT:
            raise InputError(
                f"{where}: {key} is {shown(step[key])}, at most {LONGEST_CONTENT} letter is allowed"
            )
    if kind == "Precompiled":
        _check_forms(step.get("precompiled_charsmap"), where)
    return str(kind)


def _check_forms(text: Any, where: str) -> None:
    """Refuse a table of forms in which a letter becomes a long text. Raises InputError.

    It is sentencepiece's: the length of a tree in 4 bytes, the tree, and the forms, each ended by a zero.
    """
    try:
        table = base64.b64decode(str(text)[: LARGEST_FORMS + 1], validate=True)
        if len(str(text)) > LARGEST_FORMS:
            raise ValueError(f"more than {LARGEST_FORMS} letters")
    except ValueError as error:
        raise InputError(f"{where}: its table of forms cannot be read ({error})") from error
    forms = table[4 + int.from_bytes(table[:4], "little") :]
    if (longest := max(map(len, forms.split(b"\0")))) > LONGEST_FORM:
        raise InputError(
            f"{where}: a letter would become {longest} bytes, at most {LONGEST_FORM} are allowed"
        )


def _check_words(about: dict[str, Any]) -> None:
    """Refuse a vocabulary of chance, or with ids beyond all that there are. Raises InputError."""
    model, added = about["model"], about.get("added_tokens") or []
    words = model.get("vocab")
    ids = list(words.values()) if isinstance(words, dict) else []
    added = added if isinstance(added, list) else [added]
    ids += [token.get("id") if isinstance(token, dict) else None for token in added]
    if model.get("dropout") or not all(type(index) is int and 0 <= index < MOST_IDS for index in ids):
        raise InputError(f"no ids from 0 to {MOST_IDS - 1}, or words that are left out by chance")


def _kept(about: dict[str, Any], file: Path) -> tuple[int, int]:
    """Ids of the end and the padding, as `save` wrote them."""
    try:
        ((end,),) = (token["ids"] for token in about["post_processor"]["special_tokens"].values())
        pad = about["padding"]["pad_id"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{file}: says neither how a text ends nor how it is padded: give its folder"
        ) from error
    if type(end) is not int or type(pad) is not int or not 0 <= min(end, pad) <= max(end, pad) < MOST_IDS:
        raise InputError(f"{file}: texts end with {shown(end)} and are padded with {shown(pad)}: no such ids")
    return end, pad


def canonical(text: str) -> str:
    """A text as it is tokenised: no HTML entities, no ASCII punctuation, lower case, single spaces.

    big_vision's canonicalize_text after open_clip's basic_clean, but for `ftfy`.
    """
    plain = html.unescape(html.unescape(text)).strip().translate(NO_PUNCTUATION)
    return " ".join(plain.lower().split())


def _can_be_written(token: str) -> bool:
    return not set(token) & set(string.punctuation) or BYTE.fullmatch(token) is not None


def _said(file: Path, tokenizer: tokenizers.Tokenizer) -> tuple[int, int]:
    """Ids of the end and the padding, as the tokenizer's settings name them."""
    try:
        settings = load_json(file)
    except InputError as error:
        raise InputError(f"{file}: needed to know how texts end and are padded ({error})") from error
    if not isinstance(settings, dict):
        raise InputError(f"{file}: not the settings of a tokenizer")
    if settings.get("add_bos_token") or settings.get("add_eos_token") is False:
        raise InputError(f"{file}: texts of SigLIP have an end and no start, this tokenizer adds others")
    return _token(settings, "eos_token", file, tokenizer), _token(settings, "pad_token", file, tokenizer)


def _token(settings: dict[str, Any], key: str, file: Path, tokenizer: tokenizers.Tokenizer) -> int:
    said = settings.get(key)
    token = said.get("content") if isinstance(said, dict) else said
    index = tokenizer.token_to_id(token) if isinstance(token, str) else None
    if index is None:
        raise InputError(f"{file}: {key} is {shown(said)}, which the vocabulary does not have")
    return index
