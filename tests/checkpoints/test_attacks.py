"""Promises of files that attack: whatever is in them, little memory, little time, and one clear refusal.

`CASES` is the table: a maker for each file, and words of the refusal. `support.contained` opens them, each in
a process with limits.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from support import contained
from unclip.catalogue import MANIFEST
from unclip.errors import InputError
from unclip.native import METADATA_KEY
from unclip.runtime import sha256
from unclip.tokenizer import BytePairTokenizer, CLIPTokenizer, GlideTokenizer
from unclip.tokenizer.siglip import SiglipTokenizer
from unclip.tokenizer.tokens import judged

Maker = Callable[[Path, Path], None]  # where the file goes, and the tiny bundle to begin with
CASES: dict[str, tuple[Maker, str]] = {}
SOUND = ("bundle-sound", "tokenizer-sound.json", "tokenizer-siglip-sound.json")


def case(name: str, words: str) -> Callable[[Maker], Maker]:
    """Enters a maker into the table."""

    def entered(maker: Maker) -> Maker:
        CASES[name] = (maker, words)
        return maker

    return entered


# --- pickles, written instruction by instruction ---


def name_of(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def put(i: int) -> bytes:
    return b"r" + struct.pack("<I", i) + b"0"


def get(i: int) -> bytes:
    return b"j" + struct.pack("<I", i)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def large(value: int) -> bytes:
    return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)


REBUILD = name_of("torch._utils", "_rebuild_tensor_v2")
PERSISTENT = text("storage") + name_of("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x04tQ"
TENSOR = REBUILD + b"((" + PERSISTENT + b"K\x00K\x04\x85K\x01\x85\x89NtR"
MIB = 2**20


def archive(path: Path, program: bytes, storage: bytes = struct.pack("<4f", 1, 2, 3, 4)) -> None:
    """An archive of torch's, whose object the program leaves on the stack."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02" + program + b".")
        file.writestr("archive/data/0", storage)
        file.writestr("archive/version", "3")


def doubled(first: bytes, double: Callable[[bytes], bytes], times: int) -> bytes:
    """A value, and what is made of it twice, and of that twice, and so on."""
    program = first + put(0)
    for i in range(times):
        program += double(get(i)) + put(i + 1)
    return program + get(times)


NESTED = doubled(b"K\x01", lambda value: value + value + b"\x86", 40)  # a tuple of 2 ** 40 numbers
MANY = b"](" + b"K\x01" * 100_000 + b"e"
PICKLES: dict[str, tuple[bytes, str]] = {
    "doubled-paths": (
        doubled(text("aaaa"), lambda path: name_of("pathlib", "PosixPath") + path + path + b"\x86R", 40),
        "more than 2000000 steps",
    ),
    "doubled-lists": (doubled(b"]", lambda value: b"](" + value * 2 + b"e", 40), "more than 200000 names"),
    "long-names": (
        TENSOR + put(0) + b"}(" + b"".join(number(i) + get(0) for i in range(5000)) + b"u" + put(1)
        + b"}" + text("a" * MIB) + get(1) + b"s",
        "has 1048578 characters",
    ),
    "long-name": (b"}" + text("a" * 5000) + TENSOR + b"s", "has 5000 characters"),
    "lists-of-lists": (
        b"](" + b"K\x01" * 3000 + b"e" + put(0) + b"](" + get(0) * 3000 + b"e" + put(1)
        + b"](" + get(1) * 20 + b"e",
        "more than 2000000 steps",
    ),
    "sets": (b"](" + b"\x8f" * (20 * MIB) + b"e", "more than 2000000 steps"),
    "dictionaries-of-a-list": (
        name_of("collections", "OrderedDict") + put(0) + b"](" + b"K\x01N\x86" * 10_000 + b"e\x85" + put(1)
        + b"](" + (get(0) + get(1) + b"R") * 10_000 + b"e",
        "more than 2000000 steps",
    ),
    "arguments": (
        name_of("functools", "partial") + put(0) + b"(" + b"N" * 100_000 + b"t" + put(1)
        + b"](" + (get(0) + get(1) + b"R") * 10_000 + b"e",
        "more than 2000000 steps",
    ),
    "states": (
        b"}(" + b"".join(number(i) + b"N" for i in range(20_000)) + b"u" + put(0)
        + name_of("my", "Model") + put(1) + b"](" + (get(1) + b")\x81" + get(0) + b"b") * 10_000 + b"e",
        "more than 2000000 steps",
    ),
    "module-names": (
        text("a" * MIB) + put(0) + b"](" + (get(0) + text("b") + b"\x93") * 10_000 + b"e",
        "a name of 1048577 characters",
    ),
    "keys-of-one-hash": (
        b"}(" + b"".join(large(k * (2**61 - 1)) + b"N" for k in range(1, 200_000)) + b"u",
        "more than 2000000 steps",
    ),
    "left-out-names": (
        name_of("my", "Model") + b")\x81}(" + text("_parameters") + b"}("
        + b"".join(number(i) + b"N" for i in range(100_000)) + b"u"
        + text("_non_persistent_buffers_set") + MANY + b"ub",
        "of no format that is known",
    ),
    "nested-shape": (
        REBUILD + b"((" + PERSISTENT + b"K\x00" + NESTED + b")\x89NtR",
        "has an impossible tensor",
    ),
    "nested-scalar": (
        name_of("numpy.core.multiarray", "scalar") + name_of("numpy", "dtype") + NESTED + b"\x85RC\x01a\x86R",
        "a numpy scalar of the type ((((",
    ),
    "nested-storage": (
        b"(" + PERSISTENT.replace(text("0"), NESTED) + b"e",
        "has a storage called ((((",
    ),
    "sides-beyond-numbers": (
        REBUILD + b"((" + PERSISTENT + b"K\x00(" + b"\x8a\xff" + b"\x7f" * 255 + b"K\x00t)\x89NtR",
        "has an impossible tensor",
    ),
}  # fmt: skip
for pickle, (program, expected) in PICKLES.items():
    CASES[f"{pickle}.pt"] = (lambda path, _, program=program: archive(path, program), expected)  # type: ignore[misc]


@case("directory-of-a-million.pt", "a directory of 53000000 bytes")
def _(path: Path, _: Path) -> None:
    members, local = 10**6, b"PK\3\4" + bytes(26)
    entry = b"PK\1\2" + bytes(24) + struct.pack("<HHHHHII", 7, 0, 0, 0, 0, 0, 0) + b"a/data/"
    size = members * len(entry)
    end = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, members, members, size, len(local))
    end += b"PK\6\7" + struct.pack("<IQI", 0, len(local) + size, 1)
    end += b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 2**16 - 1, 2**16 - 1, 2**32 - 1, 2**32 - 1, 0)
    path.write_bytes(local + entry * members + end)


@case("one-storage-many-tensors.pt", "laid side by side, have 1073741824")
def _(path: Path, _: Path) -> None:
    count = number(2**18)
    tensor = (
        REBUILD + b"((" + PERSISTENT.replace(b"K\x04", count) + b"K\x00" + count + b"\x85K\x01\x85\x89NtR"
    )
    names = b"".join(text(f"layer.{i}") + get(0) for i in range(1024))
    archive(path, tensor + put(0) + b"}(" + names + b"u", bytes(MIB))


@case("older-stream.pt", "more than 2000000 steps")
def _(path: Path, _: Path) -> None:
    path.write_bytes(b"\x80\x02](" + b"}" * (100 * MIB) + b"e.")


# --- MessagePack ---


def flax_array(shape: bytes) -> bytes:
    inner = b"\x93" + shape + b"\xa7float32\xc4\x00"
    return b"\xc9" + struct.pack(">Ib", len(inner), 1) + inner


@case("dictionaries.msgpack", "more than 2000000 steps")
def _(path: Path, _: Path) -> None:
    path.write_bytes(b"\xdd" + struct.pack(">I", 50 * MIB) + b"\x80" * (50 * MIB))


@case("sides.msgpack", "not a whole MessagePack file")
def _(path: Path, _: Path) -> None:
    shape = b"\xdd" + struct.pack(">I", 10**6) + (b"\xcf" + b"\xff" * 8) * 10**6
    path.write_bytes(b"\x81\xa1a" + flax_array(shape))


# --- safetensors, indexes, configs of others ---


def safetensors(path: Path, tensors: dict[str, tuple[str, list[int]]], **metadata: str) -> None:
    """A file of zeros: type and shape of each tensor."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, (kind, shape) in tensors.items():
        start, end = end, end + torch.Size(shape).numel() * int(kind.strip("BIF")) // 8
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    data = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(data)) + data + bytes(end))


@case("names.safetensors", "400000 tensors with names of up to")
def _(path: Path, _: Path) -> None:
    safetensors(path, {f"{i}": ("F32", [0]) for i in range(400_000)})


@case("long.safetensors", "names of up to 1000000 characters")
def _(path: Path, _: Path) -> None:
    safetensors(path, {"a" * 10**6: ("F32", [1])})


@case("header.safetensors", "a header of 40000000 bytes")
def _(path: Path, _: Path) -> None:
    path.write_bytes(struct.pack("<Q", 40_000_000) + b"{" + b" " * 40_000_000)


def index(content: str) -> Maker:
    def made(path: Path, _: Path) -> None:
        path.mkdir()
        (path / "model.safetensors.index.json").write_text(content)

    return made


CASES["index-of-itself"] = (
    index(json.dumps({"weight_map": {"a": "model.safetensors.index.json"}})),
    "neither safetensors nor",
)
CASES["index-of-its-parent"] = (index(json.dumps({"weight_map": {"a": ".."}})), "no such weight file")
CASES["index-deep"] = (index('{"a":' * 100_000), "not an index of weights")
CASES["index-of-text"] = (index('{"weight_map": "abc"}'), "no weight_map from names to files")


def transformers_folder(**about: Any) -> Maker:
    """A folder that says it is a CLIPModel of transformers."""

    def made(path: Path, _: Path) -> None:
        path.mkdir()
        safetensors(path / "model.safetensors", {"vision_model.pre_layrnorm.weight": ("F32", [4])})
        (path / "config.json").write_text(json.dumps({"model_type": "clip", **about}))

    return made


CASES["config-of-text"] = (transformers_folder(text_config="abc"), "do not go together")
CASES["config-of-numbers"] = (transformers_folder(vision_config={"hidden_act": [[]]}), "do not go together")


@case("config-deep", "no readable config.json")
def _(path: Path, tiny: Path) -> None:
    transformers_folder()(path, tiny)
    names = ("vision_model.pre_layrnorm.weight", "text_model.final_layer_norm.weight")
    safetensors(path / "model.safetensors", {name: ("F32", [4]) for name in names})
    (path / "config.json").write_text("[" * 100_000)


@case("yaml-laughs", "aliases")
def _(path: Path, _: Path) -> None:
    path.mkdir()
    names = ("state_dict.quantize.embedding.weight", "state_dict.post_quant_conv.weight")
    safetensors(path / "model.safetensors", {name: ("F32", [4, 4]) for name in names})
    lines = ["model: {params: {ch_mult: &a0 [1]"]
    lines += [f", n{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    (path / "model.yaml").write_text("".join(lines) + "}}")


# --- bundles ---


def bundle(change: Callable[[Path, dict[str, Any]], None]) -> Maker:
    """The tiny bundle; `change` alters its manifest, or its files, whose hashes are then made right."""

    def made(path: Path, tiny: Path) -> None:
        shutil.copytree(tiny, path)
        about = json.loads((path / MANIFEST).read_text())
        change(path, about)
        for component in about["components"].values():
            if isinstance(component, dict) and (file := path / component["file"]).is_file():
                component |= {"bytes": file.stat().st_size, "sha256": sha256(file)}
        (path / MANIFEST).write_text(json.dumps(about))

    return made


def setting(value: Any, *keys: str) -> Maker:
    """The tiny bundle with another value in its manifest and, where it is a model's config, in its file."""

    def change(path: Path, about: dict[str, Any]) -> None:
        table = about
        for key in keys[:-1]:
            table = table[key]
        table[keys[-1]] = value
        if keys[2:3] == ("config",):
            component = about["components"][keys[1]]
            described(path / component["file"], component["kind"], component["config"])

    return bundle(change)


Change = Callable[[dict[str, Any]], Any]


def described(file: Path, kind: str, config: Any, change: Change | None = None) -> None:
    """A weight file with another config, and with other tensors."""
    tensors = load_file(file)
    if change is not None:
        change(tensors)
    about = {"format": 1, "kind": kind, "config": config, "details": {}}
    save_file(tensors, file, {METADATA_KEY: json.dumps(about)})


def decoder(change: Change) -> Maker:
    """The tiny bundle with other tensors in its decoder."""

    def changed(path: Path, about: dict[str, Any]) -> None:
        component = about["components"]["decoder"]
        described(path / component["file"], component["kind"], component["config"], change)

    return bundle(changed)


def one_number(value: float) -> Maker:
    def change(tensors: dict[str, Any]) -> None:
        tensors["unet.conv_in.weight"].view(-1)[7] = value

    return decoder(change)


def as_integers(tensors: dict[str, Any]) -> None:
    tensors["unet.conv_in.weight"] = tensors["unet.conv_in.weight"].view(torch.int16)


def tokenizer(**changes: Any) -> Maker:
    """The tiny bundle whose tokenizer's file says something else."""

    def change(path: Path, about: dict[str, Any]) -> None:
        table = json.loads((path / "tokenizer.json").read_text())
        for key, value in changes.items():
            (table["model"] if key in table["model"] else table)[key] = value
        (path / "tokenizer.json").write_text(json.dumps(table))

    return bundle(change)


def manifest(content: str) -> Maker:
    def change(path: Path, _: Path) -> None:
        path.mkdir()
        (path / MANIFEST).write_text(content)

    return change


NAN, INFINITE, BEYOND = float("nan"), float("inf"), 10**400
DECODER, CLIP = ("components", "decoder"), ("components", "clip")
CASES |= {
    "bundle-deep": (manifest("[" * 200_000), "cannot be read as JSON"),
    "bundle-deeper-than-settings": (manifest('{"a":' * 500 + "1" + "}" * 500), "nested deeper than 64"),
    "bundle-of-brackets": (manifest("[" + "[]," * MIB + "[]]"), "format"),
    "bundle-large": (manifest(" " * (5 * MIB)), "more than 4194304 bytes"),
    "bundle-of-text": (setting("abc", *DECODER), "components.decoder: got 'abc'"),
    "bundle-outside": (setting("../x", *DECODER, "bundle"), "outside the bundle"),
    "bundle-named-to-obey": (setting("\x1b[2J", "name"), "has control characters"),
    "bundle-of-another-kind": (setting("clip", *DECODER, "kind"), "components.decoder"),
    "config-is-text": (setting("abc", *DECODER, "config"), "got 'abc', expected a table"),
    "config-is-nan": (setting(NAN, *DECODER, "config", "dropout"), "expected a finite number"),
    "config-of-no-heads": (setting(0, *CLIP, "config", "text", "heads"), "no clip can be built"),
    "config-of-negatives": (setting(-3, *DECODER, "config", "channels"), "a network has 0 to"),
    "layers-a-million": (setting(10**6, *CLIP, "config", "text", "layers"), "larger than the file"),
    "layers-a-thousand-million": (setting(10**9, *CLIP, "config", "text", "layers"), "a network has 0 to"),
    "vocabulary": (setting(10**12, *CLIP, "config", "text", "vocabulary"), "a network has 0 to"),
    "vocabulary-a-million": (setting(10**6, *CLIP, "config", "text", "vocabulary"), "mis-shaped"),
    "context": (setting(10**7, *CLIP, "config", "text", "context"), "larger than the file"),
    "side": (setting(10**6, *DECODER, "config", "image_size"), "image_size: got 1000000"),
    "schedule": (setting(10**12, *DECODER, "diffusion", "steps"), "allowed is 1 to 100000"),
    "shift-is-nan": (setting(NAN, *DECODER, "diffusion", "shift"), "expected a finite number"),
    "guidance-is-infinite": (setting(INFINITE, *DECODER, "sampling", "guidance"), "expected a finite number"),
    "guidance-is-beyond": (setting(BEYOND, *DECODER, "sampling", "guidance"), "expected a finite number"),
    "limit-is-nothing": (setting(0, *DECODER, "sampling", "limit"), "allowed is 1e-06"),
    "candidates": (setting(10**9, "components", "prior", "sampling", "candidates"), "allowed is 1 to 64"),
    "weights-are-nan": (one_number(NAN), "unet.conv_in.weight: has numbers that are not finite"),
    "weights-are-infinite": (one_number(INFINITE), "unet.conv_in.weight: has numbers that are not finite"),
    "weights-are-integers": (decoder(as_integers), "its numbers are torch.int16, expected torch.float64"),
    "weights-are-huge": (decoder(lambda t: t["unet.conv_out.weight"].fill_(3e38)), "are no finite numbers"),
    "normaliser": (
        tokenizer(normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "a" * 1000}),
        "its normalizer is {'type': 'Replace'",
    ),
    "words-by-chance": (tokenizer(dropout=0.5), "its dropout is 0.5"),
    "ids-beyond-the-model": (
        tokenizer(vocab={"<pad>": 0, "<start>": 1, "<end>": 2, "a": 5000}, merges=[]),
        "tokenizer and clip do not fit each other: 5001 ids, and 280 are read",
    ),
    "ids-beyond-all": (tokenizer(vocab={"a": 2**31}, merges=[]), "ids are from 0 to"),
    "ids-of-text": (tokenizer(vocab={"a": "0"}, merges=[]), "it has no table of ids"),
    "merges-of-strangers": (tokenizer(merges=[["x1", "y2"]]), "not a tokenizer file"),
}  # fmt: skip


# --- tokenizers alone ---


def siglip(**changes: Any) -> Maker:
    """A tokenizer of SigLIP's kind, as one is saved."""
    table: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": {
            "strategy": "BatchLongest",
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 1,
            "pad_type_id": 0,
            "pad_token": "</s>",
        },
        "added_tokens": [],
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": None,
        "model": {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [["<unk>", 0.0], ["</s>", 0.0], ["▁", -1.0], ["a", -2.0]],
            "byte_fallback": False,
        },
    }

    def made(path: Path, _: Path) -> None:
        path.write_text(json.dumps({**table, **changes}))

    return made


FORMS = base64.b64encode(struct.pack("<I", 4) + b"\xff" * 4 + b"a" * 10_000 + b"\0").decode()
TREE = base64.b64encode(struct.pack("<I", 1024) + b"\xff\xff\xff\x7f" * 256 + b"a\0").decode()
SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "    "}
CASES |= {
    "tokenizer-siglip-padded.json": (
        siglip(padding={"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_id": 7**12}),
        "no such ids",
    ),
    "tokenizer-siglip-spaces.json": (
        siglip(normalizer={"type": "Sequence", "normalizers": [SPACES] * 30}),
        "content is '    '",
    ),
    "tokenizer-siglip-steps.json": (
        siglip(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}] * 10_000}),
        "has the steps",
    ),
    "tokenizer-siglip-regex.json": (
        siglip(normalizer={"type": "Replace", "pattern": {"Regex": "(a|aa)+$"}, "content": ""}),
        "looks for {'Regex': '(a|aa)+$'}",
    ),
    "tokenizer-siglip-forms.json": (
        siglip(normalizer={"type": "Precompiled", "precompiled_charsmap": FORMS}),
        "would become 10000 bytes",
    ),
    "tokenizer-siglip-panic.json": (
        siglip(normalizer={"type": "Precompiled", "precompiled_charsmap": TREE}),
        "not a tokenizer file",
    ),
    "tokenizer-siglip-added.json": (
        siglip(added_tokens=[{"id": 2**40, "content": "b", "special": True}]),
        "no ids from 0 to",
    ),
    "tokenizer-siglip-numbers.json": (siglip(added_tokens=5), "no ids from 0 to"),
    "tokenizer-siglip-sequence.json": (
        siglip(normalizer={"type": "Sequence", "normalizers": 5}),
        "not a tokenizer file",
    ),
    "tokenizer-siglip-end.json": (
        siglip(post_processor={"special_tokens": {"</s>": {"ids": [1] * 1000}}}),
        "says neither how a text ends",
    ),
}


@case("tokenizer-deep.json", "not a tokenizer file")
def _(path: Path, _: Path) -> None:
    path.write_text("[" * 10**6)


@case("tokenizer-large.json", "more than 50331648 bytes")
def _(path: Path, _: Path) -> None:
    path.touch()
    os.truncate(path, 50 * MIB)


# --- what is sound passes under the same limits ---


@case("bundle-sound", "")
def _(path: Path, tiny: Path) -> None:
    shutil.copytree(tiny, path)


@case("tokenizer-sound.json", "")
def _(path: Path, _: Path) -> None:
    BytePairTokenizer.train(["a red apple", "a green apple"], 280).save(path)


CASES["tokenizer-siglip-sound.json"] = (siglip(), "")


@pytest.fixture(scope="module")
def ends(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The outcome of opening each file, by its name."""
    folder = tmp_path_factory.mktemp("attacks")
    for name, (maker, _) in CASES.items():
        maker(folder / name, tiny_bundle)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, contained.__file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    shutil.rmtree(folder)
    found = map(json.loads, done.stdout.splitlines())
    return {end["name"]: end for end in found}


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_attacks_is_refused_within_bounds(ends: dict[str, dict[str, Any]], name: str) -> None:
    _, words = CASES[name]
    end = ends[name]
    assert end["end"] == ("done" if name in SOUND else "refused"), end
    assert words in end["message"], end
    assert len(end["message"]) < 3000
    assert end["seconds"] < 3 * contained.SECONDS


def test_a_vocabulary_that_unfolds_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(60 * MIB))
    for name, kind in (("bpe_simple_vocab_16e6.txt.gz", CLIPTokenizer), ("encoder.json.gz", GlideTokenizer)):
        (tmp_path / name).write_bytes(bomb)
        (tmp_path / "vocab.bpe.gz").write_bytes(bomb)
        with pytest.raises(InputError, match="more than 50331648 bytes"):
            kind.load(tmp_path / name if kind is CLIPTokenizer else tmp_path)


def test_a_panic_of_a_library_is_refused_without_its_own_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    CASES["tokenizer-siglip-panic.json"][0](tmp_path / "tokenizer.json", tmp_path)
    for environment in ("0", "full"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RUST_BACKTRACE", environment)
            with pytest.raises(InputError, match="not a tokenizer file"):
                SiglipTokenizer.load(tmp_path / "tokenizer.json").batch(["a red apple"], 8)
    with judged("a file"):
        os.write(2, b"of somebody else\n")
    assert capfd.readouterr().err == "of somebody else\n"
