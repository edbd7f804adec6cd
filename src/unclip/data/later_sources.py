"""Sources that came after the shipped bundle was trained: coloured icons, flags, clip art as SVG, signs.

All but the clip art, whose pictures are those that the other package has, are trained on alone: they change
no split, and what is held out of the others is left out of them (`build.Input.train_only`). Packages are of
one version with one hash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unclip.data import clipart
from unclip.data.emojibase import EmojiNames
from unclip.data.records import Drawing, Fit
from unclip.data.sources import SOURCES, Reader, Source, icon_svg, iconify
from unclip.data.wording import plain_words, slug

SIGNS = ("signs", "signs-flex", "signs-plump", "signs-sharp")
"""Sources of interface signs: for CLIP's words at a low weight, not to draw like."""

Icons = dict[str, Any]
Chosen = dict[str, tuple[str, Icons]]
"""By key: the name that an icon is called by, and the icon."""

# Signs of companies, and figures that belong to somebody, by a part of the icon's name.
BRANDS = re.compile(
    r"logo(?!ut)|\b(?:adobe|airbnb|amazon|android|apple|bigben|bing|bitcoin|chrome|crypto|discord|ethereum|"
    r"facebook|figma|google|instagram|kindle|linkedin|mac|meta|netflix|nintendo|paypal|pokeball|predator|r2d2|"
    r"safari|skype|slack|spongebob|spotify|telegram|tiktok|tinder|twitter|visa|wall|wechat|whatsapp|wii|"
    r"windows|xbox|youtube)\b"
)
DISC = re.compile(r'^(<g[^>]*>)<path fill="#[0-9a-f]+" d="M(?:2[34](?:\.\d+)? )?4[78](?:\.\d+)?[ c][^"]*"/>')
FILLED = re.compile(r'fill="#([0-9a-f]{3}|[0-9a-f]{6})"[^>]*? d="([^"]*)"')
PALE = 0.85  # lightness, from there on one does not see it on white
REGION = ord("\U0001f1e6") - ord("a")
# Parts of the United Kingdom that have emoji, by the names that sets of flags give them.
UK_PARTS = {"gb-eng": "gbeng", "gb-sct": "gbsct", "gb-wls": "gbwls"}
TAG_BASE, END_OF_TAGS, BLACK_FLAG = 0xE0000, 0xE007F, 0x1F3F4


def _reader(choose: Callable[[Icons], Chosen], fit: Fit = Fit.PAD) -> Reader:
    """A reader of an `@iconify-json` package that takes what `choose` chooses of its icons."""

    def read(source: Source, archive: Path, names: EmojiNames) -> Iterator[Drawing]:
        icons, _, info = iconify(archive)
        licence = info["license"].get("spdx") or info["license"]["title"]
        for key, (name, icon) in choose(icons).items():
            words = plain_words(name)
            emoji = names.find_label(words)
            yield Drawing(
                key=f"{source.name}/{key}",
                source=source.name,
                style=source.style,
                concept=emoji.concept if emoji else slug(words),
                captions=emoji.captions if emoji else ({"en": [words]} if words else {}),
                licence=licence,
                author=info["author"]["name"],
                svg=icon_svg(icons, icon, {}),
                fit=fit,
            )

    return read


def _things(icons: Icons) -> Chosen:
    """All icons but those of brands and the copies in two colours."""
    return {
        name: (name, icon)
        for name, icon in icons["icons"].items()
        if not name.endswith("-duo") and not BRANDS.search(name)
    }


def _without_discs(icons: Icons) -> Chosen:
    """As `_things`, without the coloured disc behind each, unless what is left would be white on white."""
    chosen: Chosen = {}
    for name, (called, icon) in _things(icons).items():
        body = DISC.sub(r"\1", icon["body"])
        chosen[name] = called, icon if _pale(body) else {**icon, "body": body}
    return chosen


def _pale(body: str) -> bool:
    """True where most of a drawing, by the length of its outlines, is too light to be seen on white."""
    lengths = [0, 0]
    for colour, outline in FILLED.findall(body):
        digits = "".join(digit * 2 for digit in colour) if len(colour) == 3 else colour
        values = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
        lengths[(max(values) + min(values)) / 2 > PALE] += len(outline)
    return lengths[1] > lengths[0]


def _largest(icons: Icons) -> Chosen:
    """Of each icon, "book-24", the one that is drawn for the largest size."""
    sizes: dict[str, int] = {}
    for name in icons["icons"]:
        stem, _, size = name.rpartition("-")
        if stem and size.isdigit():
            sizes[stem] = max(sizes.get(stem, 0), int(size))
    return {stem: (stem, icons["icons"][f"{stem}-{size}"]) for stem, size in sizes.items()}


def _filled(icons: Icons) -> Chosen:
    """Of each sign the filled one, but for those of brands."""
    stems = {name.removesuffix("-flat"): icon for name, icon in icons["icons"].items() if "-flat" in name}
    return {stem: (stem, icon) for stem, icon in stems.items() if not BRANDS.search(stem)}


def read_flags(source: Source, archive: Path, names: EmojiNames) -> Iterator[Drawing]:
    """Reads a set of flags that are called by the code of their country; what is no emoji is left out."""
    icons, _, info = iconify(archive)
    for name, icon in icons["icons"].items():
        emoji = names.find_code(flag_code(name.removesuffix("-4x3")))
        if icon.get("hidden") or emoji is None:
            continue
        yield Drawing(
            key=f"{source.name}/{name}",
            source=source.name,
            style=source.style,
            concept=emoji.concept,
            captions=emoji.captions,
            licence=info["license"].get("spdx") or info["license"]["title"],
            author=info["author"]["name"],
            svg=icon_svg(icons, icon, {}),
        )


def flag_code(country: str) -> str:
    """The code points of the flag of "jp" or "gb-sct"; of what has none "0", which no emoji has."""
    if country in UK_PARTS:
        tags = [TAG_BASE + ord(letter) for letter in UK_PARTS[country]]
        return "-".join(f"{point:x}" for point in (BLACK_FLAG, *tags, END_OF_TAGS))
    if re.fullmatch(r"[a-z]{2}", country):
        return "-".join(f"{REGION + ord(letter):x}" for letter in country)
    return "0"


def _icons(name: str, style: str, package: str, sha256: str, read: Reader) -> Source:
    pattern = f"iconify-json-{package.replace('@', '-')}.tgz"
    fetch = ("npm", f"@iconify-json/{package}")
    return Source(name, fetch, pattern, read, style, emoji=False, train_only=True, sha256=sha256)


_CLIP_ART = Source(
    "openclipart",
    ("apt-get", "openclipart-svg=1:0.18+dfsg-19"),
    "openclipart-svg_*0.18+dfsg-19_all.deb",
    lambda source, archive, names: clipart.read_openclipart_svg(source.name, source.style, archive, names),
    "clip art",
    emoji=False,
    sha256="989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
)

LATER_SOURCES: tuple[Source, ...] = (
    _icons(
        *("coloured-icons", "outlined icon", "streamline-ultimate-color@1.2.2"),
        *("46133a11f3734bcef29066391d7edc141ed1d8056242ddfa1b5d36ce286420b6", _reader(_things)),
    ),
    _icons(
        *("kameleon", "bright icon", "streamline-kameleon-color@1.2.2"),
        *(
            "5f972d986afb340d8a45d7a16e767f99f91fdd94db53e46a78c79847212aed7b",
            _reader(_without_discs, Fit.TRIM),
        ),
    ),
    _icons(
        *("stickies", "doodle icon", "streamline-stickies-color@1.2.2"),
        *("e96b8b2bbe1efde22272c420a75024b4b2c7e224ec1f323c93a421a07410971e", _reader(_things)),
    ),
    _icons(
        *("fluent-color", "glossy icon", "fluent-color@1.2.21"),
        *("fa2ddaaac7a2a7b902659cea1b5b8c03017ce2ae56295138876b86a36177dfbe", _reader(_largest)),
    ),
    _icons(
        *("circle-flags", "round flag", "circle-flags@1.2.11"),
        *("ee9a03f6a6fdd79cc6325bdcb7bb93b83d331e60b16e226188f154a64b6bb4a9", read_flags),
    ),
    _icons(
        *("flag-icons", "plain flag", "flag@1.2.12"),
        *("42246bc20f6154739a192172d71ffe477747ad38278f2e912ec43f4dcb5a15e0", read_flags),
    ),
    _icons(
        *("flagpack", "plain flag", "flagpack@1.2.8"),
        *("165ea189ef6ee00b8c10d66c0a2702a6afe1d89d7feafdc3a02a459d65580483", read_flags),
    ),
    _icons(
        *("coreui-flags", "plain flag", "cif@1.2.7"),
        *("804801450b77e3b2c9a2b716fb45b44ee2a97e702e21ac6bca6358d0f7eb13c8", read_flags),
    ),
    _icons(
        *("signs", "interface sign", "streamline-color@1.2.2"),
        *("06c2addb59f572b2bfe581863888fcf7dbe0927e0511e7157c54f332fe90347f", _reader(_filled)),
    ),
    _icons(
        *("signs-flex", "interface sign", "streamline-flex-color@1.2.2"),
        *("17ef2e9d596bb288991c271a2b468be822f994cb073c94801a1c186a0e4af827", _reader(_filled)),
    ),
    _icons(
        *("signs-plump", "interface sign", "streamline-plump-color@1.2.2"),
        *("33ed8a9ebda9ed896125f1e01873105688d68d0b0c95ca1bcead5a41309afcf6", _reader(_filled)),
    ),
    _icons(
        *("signs-sharp", "interface sign", "streamline-sharp-color@1.2.2"),
        *("2bf3019009ba033d723823dc16ff3c7f5a7dbce25e31860ed9d4b1060a1f5831", _reader(_filled)),
    ),
)

MORE_SOURCES: tuple[Source, ...] = (
    *(_CLIP_ART if source.name == _CLIP_ART.name else source for source in SOURCES),
    *LATER_SOURCES,
)
"""All sources: those of the shipped bundle, their clip art as SVG, and the later ones."""
