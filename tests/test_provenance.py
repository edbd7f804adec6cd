"""Promises of provenance: a picture says that a model made it, with a key it is signed, and changes show."""

from __future__ import annotations

import io
import stat
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unclip import __version__
from unclip.drawing import Picture
from unclip.errors import InputError, UnclipError
from unclip.images import ImageFormat, read_metadata, read_source_type
from unclip.provenance import ANCHOR, KEY, MEANINGS, Proof, Signer, make_key, verify
from unclip.watermark import Mark
from unclip.xmp import SourceType, source_type

FORMATS = list(ImageFormat)


def picture(**settings: str) -> Picture:
    """A drawn picture of noise, 64 px."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return Picture(Image.fromarray(pixels), "a cat", 3, 0, None, "tiny", "abc", {"size": "64", **settings})


@pytest.fixture
def signer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signer:
    """A signer with a new key, which is the user's own."""
    monkeypatch.setenv("UNCLIP_PROVENANCE", str(tmp_path / "keys"))
    make_key("Kim 김")
    found = Signer.find()
    assert found is not None
    return found


@pytest.fixture
def stranger(tmp_path: Path) -> Signer:
    """A signer whose authority is not trusted here."""
    return Signer(make_key("a stranger", tmp_path / "strange"))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("settings", "made"),
    [({}, SourceType.GENERATED), ({"operation": "edit"}, SourceType.COMPOSITE)],
)
def test_every_picture_names_its_digital_source_type(
    tmp_path: Path, format: ImageFormat, settings: dict[str, str], made: SourceType
) -> None:
    path = picture(**settings).save(tmp_path / f"a.{format}")
    assert read_source_type(path) == made
    assert made.uri == f"http://cv.iptc.org/newscodes/digitalsourcetype/{made}"
    assert verify(path).proof is Proof.LABELLED
    assert read_metadata(path) == picture(**settings).metadata  # the mark is not among the settings


@pytest.mark.parametrize("format", FORMATS)
def test_the_switches_leave_out_the_one_and_not_the_other(tmp_path: Path, format: ImageFormat) -> None:
    path = tmp_path / f"a.{format}"
    picture().save(path, metadata=False)
    assert (read_metadata(path), read_source_type(path)) == ({}, SourceType.GENERATED)
    picture().save(path, provenance=False)
    assert read_source_type(path) is None
    assert verify(path).proof is Proof.SETTINGS
    assert verify(path).settings == picture().metadata
    picture().save(path, metadata=False, provenance=False)
    assert verify(path).proof is Proof.NOTHING


@pytest.mark.parametrize("format", FORMATS)
def test_a_signed_picture_is_trusted_with_its_anchor_and_else_of_an_unknown_key(
    tmp_path: Path, format: ImageFormat, signer: Signer, stranger: Signer
) -> None:
    own = picture().save(tmp_path / f"own.{format}", sign=signer.sign)
    other = picture().save(tmp_path / f"other.{format}", sign=stranger.sign)
    assert (verify(own).proof, verify(own).signer) == (Proof.TRUSTED, "Kim 김")
    assert verify(own).settings == picture().metadata
    assert verify(other).proof is Proof.UNKNOWN
    assert verify(other, [stranger.folder / ANCHOR]).proof is Proof.TRUSTED
    unsigned = Image.open(io.BytesIO(picture().encode(format)))
    assert np.array_equal(np.asarray(Image.open(own)), np.asarray(unsigned))  # signing touches no pixel


@pytest.mark.parametrize("format", FORMATS)
def test_no_change_outside_the_manifest_leaves_a_valid_signature(
    tmp_path: Path, format: ImageFormat, signer: Signer
) -> None:
    data = picture().encode(format, sign=signer.sign)
    manifest = data.index(b"jumb") - 40, data.rindex(b"c2pa") + 3000  # padding in it may change
    outside = [place for place in range(64, len(data)) if not manifest[0] < place < manifest[1]]
    path = tmp_path / f"a.{format}"
    for place in np.random.default_rng(1).choice(outside, 15, replace=False):
        changed = bytearray(data)
        changed[place] ^= 0x55
        path.write_bytes(changed)
        try:
            proof = verify(path).proof
        except InputError:  # no picture any more
            continue
        assert proof not in (Proof.TRUSTED, Proof.UNKNOWN), f"byte {place}"


def test_pixels_changed_after_signing_are_called_altered(tmp_path: Path, signer: Signer) -> None:
    data = picture().encode("jpeg", sign=signer.sign)
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:-10] + bytes([data[-10] ^ 1]) + data[-9:])
    assert verify(path).proof is Proof.ALTERED


def test_a_manifest_moved_to_another_picture_is_called_altered(tmp_path: Path, signer: Signer) -> None:
    signed = picture().encode("png", sign=signer.sign)
    start = signed.index(b"caBX") - 4
    length = int.from_bytes(signed[start : start + 4], "big") + 12
    chunk = signed[start : start + length]
    image = Image.fromarray(255 - np.asarray(picture().image))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    theirs = buffer.getvalue()
    place = 33  # behind PNG's signature and the header
    path = tmp_path / "moved.png"
    path.write_bytes(theirs[:place] + chunk + theirs[place:])
    assert verify(path).proof is Proof.ALTERED


def test_saved_anew_a_picture_has_what_the_program_left(tmp_path: Path, signer: Signer) -> None:
    path = picture().save(tmp_path / "a.png", sign=signer.sign)
    Image.open(path).save(tmp_path / "b.png")
    assert verify(tmp_path / "b.png").proof is Proof.NOTHING


@pytest.mark.parametrize("made", list(SourceType))
def test_parents_are_named_and_keep_their_own_manifest(
    tmp_path: Path, signer: Signer, made: SourceType
) -> None:
    parent = picture().save(tmp_path / "parent.png", sign=signer.sign)
    Image.new("RGB", (20, 10), "red").save(tmp_path / "photo.bmp")  # a kind that holds no manifest
    data = signer.sign(picture().encode(), made, [parent, tmp_path / "photo.bmp"])
    path = tmp_path / "child.png"
    path.write_bytes(data)
    assert verify(path).proof is Proof.TRUSTED
    assert verify(path).parents == ("parent.png", "photo.bmp")


def test_an_edit_is_said_to_have_been_made_of_its_one_parent(tmp_path: Path, signer: Signer) -> None:
    parent = picture().save(tmp_path / "parent.jpg")
    path = tmp_path / "child.webp"
    path.write_bytes(signer.sign(picture().encode("webp"), SourceType.COMPOSITE, [parent]))
    assert (verify(path).proof, verify(path).parents) == (Proof.TRUSTED, ("parent.jpg",))


def test_the_secret_key_is_read_by_its_owner_alone_and_never_replaced(tmp_path: Path, signer: Signer) -> None:
    secret = signer.folder / KEY
    before = secret.read_bytes()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    with pytest.raises(InputError, match="has a key already"):
        make_key("another")
    assert secret.read_bytes() == before
    assert "PRIVATE" not in (signer.folder / ANCHOR).read_text()
    for name in ("", "  ", "x" * 65):
        with pytest.raises(InputError, match="1 to 64 characters"):
            make_key(name, tmp_path / "new")


def test_a_broken_key_is_said_before_anything_is_signed(signer: Signer) -> None:
    (signer.folder / KEY).write_text("nonsense")
    with pytest.raises(UnclipError, match="cannot be used"):
        Signer.find()


def test_without_a_key_nothing_is_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCLIP_PROVENANCE", str(tmp_path / "none"))
    assert Signer.find() is None


def test_hostile_manifests_are_broken_or_nothing_and_never_end_the_work(
    tmp_path: Path, signer: Signer
) -> None:
    data = bytearray(picture().encode("png", sign=signer.sign))
    start = data.index(b"caBX")
    random = np.random.default_rng(2)
    path = tmp_path / "a.png"
    for _ in range(25):
        changed = bytearray(data)
        for place in random.integers(start + 4, start + 3000, 30):  # boxes, lengths, CBOR, certificates
            changed[place] = random.integers(0, 256)
        path.write_bytes(changed)
        try:
            assert verify(path).proof in (Proof.BROKEN, Proof.ALTERED, Proof.LABELLED)
        except InputError:
            continue


def checked(data: bytes) -> bytes:
    """A file whose manifest was changed, with the checksum that PNG has of it."""
    if b"caBX" not in data:
        return data
    start = data.index(b"caBX")
    end = start + 4 + int.from_bytes(data[start - 4 : start], "big")
    return data[:end] + zlib.crc32(data[start:end]).to_bytes(4, "big") + data[end + 4 :]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "length",
    [
        b"\xff\xff\xff\xff",  # longer than the file
        b"\x00\x00\x00\x00",  # to the end of the file
        b"\x00\x00\x00\x01",  # a length of 64 bits behind
        b"\x00\x00\x00\x07",  # shorter than its own head
    ],
)
def test_boxes_of_hostile_lengths_are_broken_or_hide_nothing_and_never_end_the_work(
    tmp_path: Path, signer: Signer, format: ImageFormat, length: bytes
) -> None:
    data = picture().encode(format, sign=signer.sign)
    path = tmp_path / f"a.{format}"
    path.write_bytes(data)
    whole = verify(path)
    places = [place - 4 for place in range(len(data)) if data[place : place + 4] in (b"jumb", b"jumd")]
    assert len(places) > 4
    for place in places[:6]:
        path.write_bytes(checked(data[:place] + length + data[place + 4 :]))
        verdict = verify(path)  # what is signed is whole where only the end of an outer box is said wrongly
        assert verdict.proof is Proof.BROKEN or verdict == whole


def test_boxes_in_boxes_without_end_are_read_no_deeper_than_they_may_be(tmp_path: Path) -> None:
    boxes = b""
    for _ in range(20_000):
        boxes = (len(boxes) + 8).to_bytes(4, "big") + b"jumb" + boxes
    chunk = b"caBX" + boxes
    part = len(boxes).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    clean = picture().encode("png", provenance=False, metadata=False)
    path = tmp_path / "deep.png"
    path.write_bytes(clean[:33] + part + clean[33:])  # behind PNG's signature and the header
    assert verify(path).proof in (Proof.BROKEN, Proof.NOTHING)


@pytest.mark.parametrize("make", [lambda path: path.write_text("text"), lambda path: path.write_bytes(b"")])
def test_what_is_no_picture_is_refused(tmp_path: Path, make: Callable[[Path], int]) -> None:
    path = tmp_path / "a.png"
    make(path)
    with pytest.raises(InputError, match=r"a\.png is not a picture"):
        verify(path)


def test_source_types_of_others_are_read_whether_attribute_or_element() -> None:
    address = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    assert source_type(f'<a x:DigitalSourceType="{address}"/>') == "digitalCapture"
    assert source_type(f"<x:DigitalSourceType>{address}</x:DigitalSourceType>".encode()) == "digitalCapture"
    assert source_type("nothing") is None


def drawn(**settings: str) -> Picture:
    """A flat picture large enough to hold a watermark, of weights as a bundle's are."""
    image = Image.new("RGB", (256, 256), "#b0c8e0")
    return Picture(image, "a cat", 3, 0, None, "tiny", "0123456789ab", {"size": "256", **settings})


def test_a_watermark_outlives_what_takes_metadata_and_signature_away(tmp_path: Path, signer: Signer) -> None:
    path = drawn().save(tmp_path / "a.png", watermark=True, sign=signer.sign)
    assert verify(path).proof is Proof.TRUSTED
    assert verify(path).watermark == Mark.of("0123456789ab", __version__)
    Image.open(path).crop((10, 10, 246, 246)).save(tmp_path / "b.jpg", quality=60)
    verdict = verify(tmp_path / "b.jpg")
    assert verdict.proof is Proof.MARKED
    assert verdict.watermark == Mark.of("0123456789ab", __version__)
    assert str(verdict).startswith(f"marked (weights 0123456789ab, unclip {__version__[:5]}): ")
    assert verify(drawn().save(tmp_path / "c.png")).watermark is None  # only where it is asked for


def test_what_a_model_had_no_part_in_and_what_an_edit_keeps_carry_no_watermark(tmp_path: Path) -> None:
    removed = drawn(operation="remove")
    assert removed.watermarked is removed.image
    whole = replace(drawn(operation="edit"), kept=Image.new("L", (256, 256), 255))
    assert whole.watermarked is whole.image
    assert verify(whole.save(tmp_path / "a.png", watermark=True)).proof is Proof.LABELLED
    keep = Image.new("L", (256, 256), 255)
    keep.paste(0, (0, 0, 256, 160))
    half = replace(whole, kept=keep)
    assert np.array_equal(np.asarray(half.watermarked)[160:], np.asarray(half.image)[160:])
    assert verify(half.save(tmp_path / "b.png", watermark=True)).proof is Proof.MARKED


def test_the_bytes_of_a_file_are_judged_as_the_file_is(tmp_path: Path, signer: Signer) -> None:
    path = drawn().save(tmp_path / "a.webp", watermark=True, sign=signer.sign)
    assert verify(path.read_bytes()) == verify(path)
    with pytest.raises(InputError, match="the picture is not a picture"):
        verify(b"text")


def test_parents_may_be_bytes(tmp_path: Path, signer: Signer) -> None:
    parent = picture().encode("png", sign=signer.sign)
    path = tmp_path / "a.png"
    path.write_bytes(signer.sign(drawn().encode(), SourceType.GENERATED, [parent]))
    assert (verify(path).proof, verify(path).parents) == (Proof.TRUSTED, ("picture 1",))


def test_the_order_is_that_of_what_proves_more() -> None:
    order = ["trusted", "unknown-key", "altered", "broken", "marked", "labelled", "settings", "nothing"]
    assert [str(proof) for proof in Proof] == order


def test_every_proof_has_its_line() -> None:
    assert set(MEANINGS) == set(Proof)
