"""Provenance: pictures that say what they are, signed by their owner's key, and what a file proves.

A picture that is drawn says so in four ways, each stronger than the one before. Its settings stand in its
metadata, as text. An XMP packet names its IPTC digital source type, which other programs read (`xmp`). An
invisible watermark, where it is asked for, stands in its pixels, and outlives a program that saves the
picture anew and drops metadata (`watermark`). And, where its owner has a key (`make_key`), a C2PA manifest is
signed with it: it holds a hash of the whole file, so every later change shows (C2PA specification 2.2,
https://spec.c2pa.org). All of it happens on this machine. None of it proves that a picture without marks was
*not* drawn by a model.

The extra `provenance` (c2pa-python) is needed to sign, and to judge a signature.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unclip import __version__
from unclip.errors import InputError, UnclipError, listed
from unclip.images import open_image, read_metadata, read_source_type
from unclip.runtime import atomic_path, data_folder
from unclip.watermark import Mark, read_mark
from unclip.xmp import SourceType

if TYPE_CHECKING:
    import c2pa
    from cryptography import x509

EXTRA = "pip install 'unclip[provenance]'"
CERTIFICATES, KEY, ANCHOR = "certificates.pem", "key.pem", "anchor.pem"
YEARS = 10  # that a certificate is valid: nobody's clock vouches for the time of an offline signature
MOST_BYTES = 500_000_000  # of a file that is verified
MOST_PARENTS = 16
# Kinds of files by their first bytes, of those that are signed or can be parents.
KINDS: Mapping[str, tuple[bytes, int]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n", 0),
    "image/jpeg": (b"\xff\xd8\xff", 0),
    "image/webp": (b"WEBP", 8),
    "image/gif": (b"GIF8", 0),
    "image/tiff": (b"II*\0", 0),
    "image/avif": (b"ftypavif", 4),
    "image/heic": (b"ftyphei", 4),
}
SIGNED = ("image/png", "image/jpeg", "image/webp", "image/gif")  # the kinds that we write


class Proof(StrEnum):
    """The strongest thing that a file says of where it came from."""

    TRUSTED = "trusted"
    UNKNOWN = "unknown-key"
    ALTERED = "altered"
    BROKEN = "broken"
    MARKED = "marked"
    LABELLED = "labelled"
    SETTINGS = "settings"
    NOTHING = "nothing"


# What each proves and what not, in a line.
MEANINGS: Mapping[Proof, str] = {
    Proof.TRUSTED: "signed by a key that you trust, and not changed since; whether it shows what is true, it "
    "does not prove",
    Proof.UNKNOWN: "not changed since it was signed, by a key that you do not know: anybody can make one, in "
    "any name",
    Proof.ALTERED: "changed after it was signed, or the signature is of another picture; who did it, or what "
    "it was, it does not prove",
    Proof.BROKEN: "it has a signature that cannot be relied on, which proves nothing",
    Proof.MARKED: "its pixels have the watermark of what unclip draws, whatever became of its file; anybody "
    "can put one into any picture, so it does not prove who drew it",
    Proof.LABELLED: "it says that a model made it; not signed, so anybody may have written or changed that",
    Proof.SETTINGS: "it has settings of a drawing; not signed, so anybody may have written or changed them",
    Proof.NOTHING: "it says nothing of where it came from, which proves nothing: marks can be taken out",
}


@dataclass(frozen=True)
class Verdict:
    """The origin that a file claims.

    Attributes:
        proof: the strongest thing.
        signer: the name in the certificate, as its owner wrote it.
        made: the IPTC digital source type.
        settings: texts of the drawing, see `Picture.metadata`.
        parents: titles of the pictures that it was made of, as its manifest has them.
        detail: the reason where a signature does not hold.
        watermark: what its pixels say, whatever else there is.
    """

    proof: Proof
    signer: str | None = None
    made: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    detail: str = ""
    watermark: Mark | None = None

    def __str__(self) -> str:
        who = self.signer or (self.watermark if self.proof is Proof.MARKED else None)
        who = f" ({who})" if who else ""
        why = f": {self.detail}" if self.detail else ""
        return f"{self.proof}{who}: {MEANINGS[self.proof]}{why}"


def key_folder() -> Path:
    """The folder of the user's key: $UNCLIP_PROVENANCE, or `provenance` in the data folder."""
    return Path(os.environ.get("UNCLIP_PROVENANCE") or data_folder() / "provenance")


def make_key(name: str, folder: Path | None = None) -> Path:
    """Make a key of one's own, with a certificate authority of one's own: nobody else vouches for it.

    Written are `key.pem` (secret, read by its owner alone), `certificates.pem` (goes into every picture), and
    `anchor.pem`, to be given to those who shall recognise the pictures. The authority's own key is thrown
    away.

    Args:
        name: of the signer, stands in every picture.
        folder: None is `key_folder()`.

    Returns:
        The folder.

    Raises:
        InputError: an empty name, or there is a key already.
        UnclipError: the extra is not installed, or the folder cannot be written to.
    """
    _library()
    from cryptography.hazmat.primitives import serialization

    folder = folder or key_folder()
    if not name.strip() or len(name) > 64:  # the upper bound of a common name (RFC 5280)
        raise InputError(f"the name {name!r}: give 1 to 64 characters, they stand in every picture")
    if (folder / KEY).exists():
        raise InputError(f"{folder} has a key already: pictures are signed with it; move it away for another")
    authority_key, authority = _certificate(f"{name} (authority)"[-64:], None)
    key, certificate = _certificate(name, (authority_key, authority))
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    texts = {
        ANCHOR: authority.public_bytes(pem),
        CERTIFICATES: certificate.public_bytes(pem) + authority.public_bytes(pem),
        KEY: secret,  # last: where there is a key, all is there
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in texts.items():
            with atomic_path(folder / file) as temporary:
                temporary.touch(mode=0o600 if file == KEY else 0o644)
                temporary.write_bytes(data)
    except OSError as error:
        raise UnclipError(f"cannot write the key to {folder}: {error.strerror or error}") from error
    return folder


def _certificate(name: str, issuer: tuple[Any, x509.Certificate] | None) -> tuple[Any, x509.Certificate]:
    """A key (P-256) and its certificate: an authority's, or by one a signer's (C2PA 2.2, section 14.5.1)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    authority = issuer is None
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    by, by_name = (key, subject) if issuer is None else (issuer[0], issuer[1].subject)
    now = datetime.datetime.now(datetime.UTC)
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("encipher_only", "decipher_only"),
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, **usage
            ),
            True,
        )
    )
    if not authority:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        )
    return key, builder.sign(by, hashes.SHA256())


class Signer:
    """Signs pictures with the user's key.

    Args:
        folder: of the key, as `make_key` makes it.

    Attributes:
        name: the signer's, as it stands in the pictures.
        expires: the end of the certificate's validity.
        fingerprint: SHA-256 of the certificate, as hexadecimal digits.

    Raises:
        UnclipError: the extra is not installed, or the key cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        library = _library()
        try:
            certificates, key = (folder / CERTIFICATES).read_bytes(), (folder / KEY).read_bytes()
            # without an address no time is asked for: signing needs no network
            info = library.C2paSignerInfo(library.C2paSigningAlg.ES256, certificates, key, None)
            self._signer = library.Signer.from_info(info)
        except OSError as error:
            raise UnclipError(f"cannot read the key in {folder}: {error.strerror or error}") from error
        except library.C2paError as error:
            raise UnclipError(
                f"the key in {folder} cannot be used ({error}): make one by `unclip provenance init`"
            ) from error
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.x509.oid import NameOID

        certificate = x509.load_pem_x509_certificate(certificates)  # the first is the signer's
        self.folder = folder
        self.expires = certificate.not_valid_after_utc
        self.name = str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
        self.fingerprint = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    @classmethod
    def find(cls) -> Signer | None:
        """The signer of the user's key, or None where there is no key."""
        folder = key_folder()
        return cls(folder) if (folder / KEY).is_file() else None

    def sign(self, data: bytes, made: SourceType, parents: Sequence[str | Path | bytes] = ()) -> bytes:
        """A PNG, JPEG, WebP or GIF file with a signed manifest; all else about it must be written before.

        Args:
            data: the file.
            made: the part that a model had in it.
            parents: the pictures that it was made of, files or what is in them; what is signed in them stays
                in it, too.

        Raises:
            InputError: another kind of file, or more than 16 parents.
            UnclipError: a parent cannot be read.
        """
        kind = kind_of(data)
        if kind not in SIGNED:
            raise InputError(f"a file of the kind {kind or 'unknown'} is not signed: give {listed(SIGNED)}")
        if len(parents) > MOST_PARENTS:
            raise InputError(f"{len(parents)} parents: at most {MOST_PARENTS}")
        library = _library()
        builder = library.Builder(_manifest(made, len(parents)), context=_context())
        for number, parent in enumerate(parents):
            _add_parent(builder, parent, number, made)
        signed = io.BytesIO()
        try:
            builder.sign(self._signer, kind, io.BytesIO(data), signed)
        except library.C2paError as error:
            raise UnclipError(f"the picture cannot be signed: {error}") from error
        return signed.getvalue()


def _manifest(made: SourceType, parents: int) -> dict[str, Any]:
    """The claims of a manifest: what was done, by which program."""
    agent = {"name": "unclip", "version": __version__}
    inputs = {"parameters": {"ingredientIds": [str(number) for number in range(parents)]}} if parents else {}
    told = {"digitalSourceType": made.uri, "softwareAgent": agent}
    if made is not SourceType.GENERATED and parents == 1:
        actions = [{"action": "c2pa.opened", **inputs}, {"action": "c2pa.edited", **told}]
    else:
        actions = [{"action": "c2pa.created", **told, **inputs}]
    return {
        "claim_generator_info": [agent],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
    }


def _add_parent(builder: c2pa.Builder, parent: str | Path | bytes, number: int, made: SourceType) -> None:
    if isinstance(parent, bytes):
        name, data = f"picture {number + 1}", parent
    else:
        name = Path(parent).name
        try:
            data = Path(parent).read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise UnclipError(f"cannot read {parent}, which is signed for: {reason}") from error
    edited = made is not SourceType.GENERATED
    told = {
        "title": name,
        "label": str(number),
        "relationship": "parentOf" if edited and not number else "inputTo",
    }
    kind = kind_of(data)
    if kind is None or kind not in _library().Builder.get_supported_mime_types():
        # a kind that cannot hold a manifest: its pixels, as we read them, stand for it
        from unclip.images import ImageFormat, encode

        data, kind = encode(open_image(data, first_frame=True), ImageFormat.PNG), "image/png"
    builder.add_ingredient(told, kind, io.BytesIO(data))


def kind_of(data: bytes) -> str | None:
    """The media type of a file by its first bytes, or None for a kind that is not signed and no parent."""
    for kind, (mark, start) in KINDS.items():
        if data[start : start + len(mark)] == mark:
            return kind
    return None


def verify(file: str | Path | bytes, anchors: Sequence[Path] = ()) -> Verdict:
    """Read the origin that a picture's file claims, judge its signature, and look for a watermark.

    Args:
        file: its path, or what is in it.
        anchors: certificates (PEM) of authorities that are trusted beside one's own.

    Raises:
        InputError: it is no picture, cannot be read, or an anchor cannot.
    """
    if not isinstance(file, bytes):
        file = Path(file)
        settings, made = read_metadata(file), read_source_type(file)  # refuses what is no picture
        if file.stat().st_size > MOST_BYTES:
            raise InputError(f"{file} has more than {MOST_BYTES // 10**6} MB: it is not verified")
        file = file.read_bytes()
    else:
        settings, made = read_metadata(file), read_source_type(file)
    mark = _watermark(file)
    return replace(_claimed(file, settings, made, mark, anchors), watermark=mark)


def _watermark(data: bytes) -> Mark | None:
    try:
        found = read_mark(open_image(data, first_frame=True))
    except InputError:  # its pixels are broken, or too many: what else it has may still be read
        return None
    return None if found is None else found.mark


def _claimed(
    data: bytes, settings: Mapping[str, str], made: str | None, mark: Mark | None, anchors: Sequence[Path]
) -> Verdict:
    """The verdict on a file's own words and its signature."""
    settings = {
        key: text for key, text in settings.items() if settings.get("Software", "").startswith("unclip")
    }
    weak = Proof.SETTINGS if settings else Proof.NOTHING
    weak = Proof.MARKED if mark else Proof.LABELLED if made else weak
    kind = kind_of(data)
    if kind is None or b"jumb" not in data:  # the box that holds manifests (ISO 19566-5)
        return Verdict(weak, None, made, settings)
    library = _library()
    own = key_folder() / ANCHOR
    trusted = [*anchors, *([own] if own.is_file() else [])]
    try:
        context = _context("\n".join(anchor.read_text() for anchor in trusted))
    except (OSError, ValueError) as error:
        raise InputError(f"the anchors {listed(trusted)} cannot be read: {error}") from error
    try:
        reader = library.Reader(kind, io.BytesIO(data), context=context)
        state, report = reader.get_validation_state(), json.loads(reader.json())
    except library.C2paError as error:
        if str(error).startswith("ManifestNotFound"):
            return Verdict(weak, None, made, settings)
        return Verdict(Proof.BROKEN, None, made, settings, (), str(error)[:200])
    manifest = report.get("manifests", {}).get(report.get("active_manifest"), {})
    who = manifest.get("signature_info", {}).get("common_name")
    parents = tuple(str(one.get("title", "")) for one in manifest.get("ingredients", []))
    codes = [str(status.get("code", "")) for status in report.get("validation_status", [])]
    failed = [code for code in codes if code != "signingCredential.untrusted"]
    if state == "Trusted":
        proof, failed = Proof.TRUSTED, []
    elif state == "Valid":
        proof, failed = Proof.UNKNOWN, []
    elif any(code.startswith("assertion.dataHash") for code in failed):
        proof = Proof.ALTERED
    else:
        proof = Proof.BROKEN
    return Verdict(proof, who, made, settings, parents, listed(dict.fromkeys(failed)))


def _context(anchors: str = "") -> c2pa.Context:
    """Settings of the library: nothing is fetched, no thumbnails, these anchors alone are trusted."""
    settings: dict[str, Any] = {
        "builder": {"thumbnail": {"enabled": False}},
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": False},
    }
    if anchors:
        settings["trust"] = {"user_anchors": anchors}
    return _library().Context.from_dict(settings)


def _library() -> Any:
    """The module `c2pa`. Raises UnclipError where the extra is not installed."""
    try:
        import c2pa
    except ImportError as error:
        raise UnclipError(f"signatures need the extra `provenance`: {EXTRA}") from error
    return c2pa
