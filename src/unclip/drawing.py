"""The request for pictures and the answer: options, jobs, events and pictures."""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from PIL import Image

from unclip import __version__
from unclip.data.styles import ANY_STYLE
from unclip.errors import InputError, shown
from unclip.given import NOTHING, OWN_STYLE, Given
from unclip.images import ImageFormat, Source, encode, to_pil
from unclip.keywords import check_names
from unclip.runtime import atomic_path
from unclip.xmp import SourceType

if TYPE_CHECKING:
    from torch import Tensor


REMOVE = "remove"  # the operation that no model has a part in
COMPOSED = ("edit", "outpaint", "init")  # operations whose picture keeps some of another one
KEPT_PROMPT = 4000  # characters: four bytes each still fit the metadata of every format


Sign = Callable[[bytes, SourceType], bytes]
"""Signs a picture's file, told what part a model had in it."""


class Prior(StrEnum):
    """The model that makes an image embedding of a caption."""

    DIFFUSION = "diffusion"
    AR = "ar"  # code by code
    NONE = "none"  # nothing: the text's embedding stands for the picture's


class Settings(TypedDict, total=False):
    """The keywords of `generate` and `stream`: the fields of `Options`."""

    n: int
    size: int | None
    seed: int | None
    steps: int | str | None
    guidance: float | None
    prior: str | None
    prior_guidance: float | None
    sampler: str | None
    candidates: int | None
    rerank: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    clip_guidance: float | None
    start: Source | None
    keep_rows: int | None
    init: Source | None
    strength: float | None
    fit: str | None
    style: str | None


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of a drawing. A setting that is None is the bundle's own default.

    Attributes:
        n: pictures of each prompt, 1 to 100.
        size: side in pixels; which there are depends on the bundle. 512 is drawn at 1024 and reduced.
        seed: 0 to 2^64 - 1; None is a random one, which the pictures then carry.
        steps: of the decoder: a count, or a text that `diffusion.schedule.respace` understands ("fast27").
        guidance: scale of the decoder's classifier-free guidance, 0 to 50; 1 is none.
        prior: what draws the image embedding, "diffusion" or "ar"; "none" gives the decoder the text's.
        prior_guidance: the same of the prior, 0 to 50.
        sampler: of the decoder, "ancestral", "ddim", "analytic-dpm", "dpm++", "heun" or "langevin".
        candidates: embeddings that the prior draws for each picture, 1 to 64; the one nearest to the text is
            kept.
        rerank: draw so many small pictures of each prompt, n to 1000, and enlarge only the n that CLIP finds
            nearest to it.
        temperature: of codes that are drawn one by one, 0.01 to 100; below 1 they are surer.
        top_k: so many codes, the most likely ones, are drawn from, 1 and more.
        top_p: the most likely codes that together reach this probability are drawn from, 0.01 to 1.
        clip_guidance: scale of guidance by a CLIP that sees noised pictures, 0 to 50; 0 is none. With it the
            other guidance is off unless it is given, too.
        start: a picture whose upper part is kept, of a model that draws codes one by one; with `keep_rows`.
        keep_rows: rows of codes of `start` that are kept, 1 and more.
        init: a picture, or the file of one, that the first network starts from in place of noise.
        strength: how much of it is drawn anew, 0 to 1, the share of steps that are taken: at 0 the picture
            comes back, at 1 it is ignored. None is 0.7.
        fit: how `init` becomes square, "letterbox" (on white), "crop" or "stretch"; None is letterbox.
        style: what is drawn in where the prompt names no style: a name among the bundle's, or "any" to add
            nothing to the prompt. None is one of the bundle's clear styles, by seed and index; nothing is
            added where a picture or an embedding is given, or by a bundle that lists no styles.

    Raises:
        InputError: a value outside its range.
    """

    MOST: ClassVar[int] = 100
    MOST_RERANKED: ClassVar[int] = 1000
    MOST_CANDIDATES: ClassVar[int] = 64
    MOST_GUIDANCE: ClassVar[float] = 50.0
    MOST_CODES: ClassVar[int] = 2**20
    LONGEST_PROMPT: ClassVar[int] = 100_000  # characters; a model reads far fewer and says so

    n: int = 1
    size: int = 256
    seed: int | None = None
    steps: int | str | None = None
    guidance: float | None = None
    prior: str | None = None
    prior_guidance: float | None = None
    sampler: str | None = None
    candidates: int | None = None
    rerank: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    clip_guidance: float | None = None
    start: Source | None = None
    keep_rows: int | None = None
    init: Source | None = None
    strength: float | None = None
    fit: str | None = None
    style: str | None = None

    @classmethod
    def of(cls, **settings: Any) -> Options:
        """Options of keywords. Raises InputError for one that there is not, too, with what it may mean."""
        check_names(settings, [item.name for item in fields(cls)])
        return cls(**settings)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:  # a number of numpy or torch
                object.__setattr__(self, item.name, value.item())
        checked_number("n", self.n, 1, self.MOST)
        if self.size is not None and (isinstance(self.size, bool) or not isinstance(self.size, int)):
            raise InputError(f"size is {shown(self.size)}: give a whole number of pixels")
        if self.steps is not None and (
            isinstance(self.steps, bool) or not isinstance(self.steps, (int, str))
        ):
            raise InputError(
                f"steps is {shown(self.steps)}: give a whole number, or a spacing such as 'fast27'"
            )
        _check("candidates", self.candidates, 1, self.MOST_CANDIDATES)
        _check("seed", self.seed, 0, 2**64 - 1)
        _check("guidance", self.guidance, 0.0, self.MOST_GUIDANCE)
        _check("prior_guidance", self.prior_guidance, 0.0, self.MOST_GUIDANCE)
        _check("clip_guidance", self.clip_guidance, 0.0, self.MOST_GUIDANCE)
        if self.prior is not None and not (isinstance(self.prior, str) and self.prior in list(Prior)):
            raise InputError(f"unknown prior {shown(self.prior)}: choose {', '.join(Prior)}")
        _check("rerank", self.rerank, self.n, self.MOST_RERANKED)
        _check("temperature", self.temperature, 0.01, 100.0)
        _check("top_k", self.top_k, 1, self.MOST_CODES)
        _check("top_p", self.top_p, 0.01, 1.0)
        _check("keep_rows", self.keep_rows, 1, self.MOST_CODES)
        if (self.start is None) != (self.keep_rows is None):
            raise InputError("a picture to start from and keep_rows belong together: give both or neither")
        _check("strength", self.strength, 0.0, 1.0)
        if self.init is None and (self.strength is not None or self.fit is not None):
            raise InputError("strength and fit are of a picture to start from: give init, too, or neither")
        if self.style is not None and not isinstance(self.style, str):
            raise InputError(f"style is {shown(self.style)}: give the name of one, or {ANY_STYLE!r}")
        if self.style not in (None, ANY_STYLE) and (self.init is not None or self.start is not None):
            raise InputError(f"style: {OWN_STYLE}")
        if isinstance(self.steps, str) and self.steps.isascii() and self.steps.isdigit():
            object.__setattr__(self, "steps", int(self.steps))

    def __repr__(self) -> str:
        """The settings that differ from the defaults."""
        said = [(item.name, getattr(self, item.name)) for item in fields(self)]
        changed = [(name, value) for name, value in said if value is not getattr(Options, name)]
        return f"Options({', '.join(f'{name}={value!r}' for name, value in changed)})"

    @property
    def given(self) -> frozenset[str]:
        """The fields that are set, but for those that every family honours: n, size, seed, and any style."""
        names = (item.name for item in fields(self))
        idle = {"n", "size", "seed", *(("style",) if self.style == ANY_STYLE else ())}
        return frozenset(name for name in names if getattr(self, name) is not None) - idle


def kept(prompt: str) -> str:
    """A prompt as metadata keep it: a very long one is cut, and told apart by its hash."""
    if len(prompt) <= KEPT_PROMPT:
        return prompt
    digest = hashlib.sha256(prompt.encode()).hexdigest()
    return f"{prompt[:KEPT_PROMPT]}... ({len(prompt)} characters, SHA-256 {digest})"


def check_prompt(prompt: str) -> None:
    """Raises InputError for a prompt that is empty, far too long or no text."""
    check_text("a prompt", prompt)
    # marks of no width, byte order marks and control characters do not show
    shows = (letter for letter in prompt if unicodedata.category(letter) not in ("Cf", "Cc"))
    if not "".join(shows).strip():
        raise InputError("the prompt is empty: say what to draw")


def check_text(name: str, text: str) -> None:
    """Raises InputError that names it for what is no text, or far too long."""
    if not isinstance(text, str):
        raise InputError(f"{name} is {shown(text)}: give a text")
    if len(text) > Options.LONGEST_PROMPT:
        raise InputError(f"{name} has {len(text)} characters: at most {Options.LONGEST_PROMPT} are allowed")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name} is not text: it has a stray {text[error.start]!r}") from error


def fresh_seed(seed: int | None = None) -> int:
    """The seed, or a random one in place of None."""
    return secrets.randbelow(2**32) if seed is None else seed


def checked_number(name: str, value: Any, low: float, high: float) -> Any:
    """A number within a range as Python has it, whole where `low` is; numpy's and torch's are numbers too.

    Raises:
        InputError: it is none, or lies outside of the range.
    """
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        value = value.item()
    whole = isinstance(low, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise InputError(f"{name} is {shown(value)}: give a {'whole ' if whole else ''}number")
    if not low <= value <= high:  # NaN is not, either
        raise InputError(f"{name} is {shown(value)}: choose from {low:g} to {high if whole else f'{high:g}'}")
    return value


def _check(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None:
        checked_number(name, value, low, high)


@dataclass(frozen=True)
class Job:
    """One picture to draw: `index` counts the pictures of a seed, and each has its own noise."""

    prompt: str
    seed: int
    index: int
    given: Given = NOTHING

    @property
    def text(self) -> str:
        """The text that networks read: the prompt or its translation, with the style said beside it."""
        if self.given.style is not None:
            return self.given.style.text
        return self.prompt if self.given.translation is None else self.given.translation


@dataclass(frozen=True)
class Picture:
    """A picture and where it came from.

    Attributes:
        image: the picture, RGB.
        prompt, seed, index: what draws it again, with the same `settings` and weights.
        score: cosine of the angle between picture and prompt, with its style, in CLIP's space, -1 to 1; None
            where the bundle has no CLIP that sees pictures.
        model: name of the bundle.
        identity: stands for the bundle's exact weights.
        settings: size, steps and the like, as text.
        kept: mode L, as large as the picture: 255 where it is another one's, as that was; None is nowhere.
    """

    image: Image.Image
    prompt: str
    seed: int
    index: int
    score: float | None
    model: str
    identity: str
    settings: Mapping[str, str] = field(default_factory=dict)
    kept: Image.Image | None = field(default=None, repr=False)

    @property
    def made(self) -> SourceType:
        """The part that the model had in it: all, what was drawn into or over another picture, or none."""
        operation = self.settings.get("operation")
        if operation == REMOVE:
            return SourceType.ALTERED
        return SourceType.COMPOSITE if operation in COMPOSED else SourceType.GENERATED

    @property
    def metadata(self) -> dict[str, str]:
        """The texts that `save` writes into the file; two files have equal ones only for the same picture."""
        return {
            "Software": f"unclip {__version__}",
            "prompt": kept(self.prompt),
            "seed": str(self.seed),
            "index": str(self.index),
            "model": self.model,
            "weights": self.identity,
            **self.settings,
        }

    @property
    def watermarked(self) -> Image.Image:
        """The picture with an invisible watermark, of its weights and the version, in what a model drew.

        It comes as it is where no model drew anything, or too little to hold a mark.
        """
        if self.made is SourceType.ALTERED:
            return self.image
        from unclip.watermark import Mark, embed

        return embed(self.image, Mark.of(self.identity, __version__), self.kept)

    def _repr_png_(self) -> bytes:
        """As notebooks show it."""
        return self.encode()

    def encode(
        self,
        format: str | ImageFormat = ImageFormat.PNG,
        *,
        metadata: bool = True,
        provenance: bool = True,
        watermark: bool = False,
        sign: Sign | None = None,
        quality: int | None = None,
    ) -> bytes:
        """The bytes of a PNG, JPEG or WebP file.

        Args:
            format: of the file.
            metadata: whether prompt, seed, model and settings go into it.
            provenance: whether it says, by XMP, that a model made it.
            watermark: whether its pixels carry an invisible mark, see `watermarked`.
            sign: signs it, for example `provenance.Signer.sign`; None leaves it unsigned.
            quality: as of `images.encode`.

        Raises:
            InputError: another format, or a quality out of range.
        """
        texts, made = self.metadata if metadata else None, self.made if provenance else None
        image = self.watermarked if watermark else self.image
        data = encode(image, format, texts, quality=quality, made=made)
        return data if sign is None else sign(data, self.made)

    def save(
        self,
        path: str | Path,
        format: str | ImageFormat | None = None,
        *,
        metadata: bool = True,
        provenance: bool = True,
        watermark: bool = False,
        sign: Sign | None = None,
    ) -> Path:
        """Write a file, whole or not at all; what is there is replaced.

        Args:
            path: its suffix says the format where `format` does not.
            format: "png", "jpeg" or "webp".
            metadata: as of `encode`.
            provenance: as of `encode`.
            watermark: as of `encode`.
            sign: as of `encode`.

        Raises:
            InputError: an unknown format.
            OSError: the file cannot be written.
        """
        path = Path(path)
        data = self.encode(
            format or path.suffix or ImageFormat.PNG,
            metadata=metadata,
            provenance=provenance,
            watermark=watermark,
            sign=sign,
        )
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
        return path


@dataclass(frozen=True)
class Event:
    """A piece of work that is done.

    Attributes:
        stage: "prompt", "prior", "decoder", "upsampler-256", ..., "pictures".
        step: pieces of this stage that are done, this one included; 0 says how many there will be.
        total: pieces that this stage has.
        seconds: computing time of this piece.
        pictures: those that are finished with it.
        estimate: (B, 3, S, S) in [-1, 1] or beyond, what the stage takes the pictures to become.
    """

    stage: str
    step: int
    total: int
    seconds: float
    pictures: tuple[Picture, ...] = ()
    estimate: Tensor | None = field(default=None, repr=False)

    def preview(self) -> list[Image.Image]:
        """The pictures that are being drawn as they look by now; none before the decoder starts."""
        return [] if self.estimate is None else [to_pil(image) for image in self.estimate]
