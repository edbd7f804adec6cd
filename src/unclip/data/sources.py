"""Every source of the pictograms corpus: its package, its style, and how its pictures are read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unclip.data import clipart
from unclip.data.archives import find, members
from unclip.data.emojibase import EmojiNames, code_key
from unclip.data.records import Drawing
from unclip.data.wording import plain_words, slug, split_words
from unclip.errors import DataError

EMOJIBASE = "emojibase-data-17*.tgz"
ICON_COLOUR = "#000000"  # what `currentColor` becomes
# Words that Firefox OS's names need to be taken apart and that no emoji has.
MORE_WORDS = (
    "squared ideograph accept advantage congratulation cancellation touchtone icon mood bold script bulb "
    "clamshell latin capital letter sideways stamped italian russian spanish symbol modem cartridge baloon"
)
Reader = Callable[["Source", Path, EmojiNames], Iterator[Drawing]]


@dataclass(frozen=True)
class Source:
    """Pictures of one style from one package.

    Attributes:
        pattern: finds the package among fetched archives.
        emoji: its icons are emoji: names are looked up loosely.
        train_only: its pictures are all trained on, and none that shows what is held out comes in.
        sha256: of the package; empty where any version will do.
    """

    name: str
    fetch: tuple[str, str]  # ("npm" | "apt-get", package)
    pattern: str
    read: Reader
    style: str
    emoji: bool = True
    test_only: bool = False
    train_only: bool = False
    sha256: str = ""

    def drawings(self, folder: Path, names: EmojiNames) -> Iterator[Drawing]:
        """Yields its pictures from the archive in `folder`, in the archive's order, withdrawn ones last."""
        return self.read(self, find(folder, self.pattern), names)


def read_icons(source: Source, archive: Path, names: EmojiNames) -> Iterator[Drawing]:
    """Reads an `@iconify-json` package: https://iconify.design/docs/types/iconify-json.html."""
    icons, chars, info = iconify(archive)
    by_name = {name: code for code, name in chars.items()}
    vocabulary = names.vocabulary()
    licence = info["license"].get("spdx") or info["license"]["title"]
    author = info["author"]["name"]
    entries: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        name: (icon, {}) for name, icon in icons["icons"].items()
    }
    for name, alias in icons.get("aliases", {}).items():
        if set(alias) & {"hFlip", "vFlip", "rotate"} and alias["parent"] in icons["icons"]:
            entries[name] = (icons["icons"][alias["parent"]], alias)
    for name, (icon, alias) in sorted(entries.items(), key=lambda entry: bool(entry[1][0].get("hidden"))):
        style, plain = _variant(source, name)
        emoji = names.find_code(by_name[name]) if name in by_name else None
        if emoji is None:
            emoji = names.find_name(plain) if source.emoji else names.find_label(plain)
        words = plain_words(plain)
        if source.name == "fxemoji" and emoji is None:  # its names are written without spaces
            words = split_words(words, vocabulary)
            words = words if set(words.split()) <= vocabulary else ""
            emoji = names.find_label(words)
        yield Drawing(
            key=f"{source.name}/{name}",
            source=source.name,
            style=style,
            concept=emoji.concept if emoji else slug(words),
            captions=emoji.captions if emoji else ({"en": [words]} if words else {}),
            names=(words,) if emoji and words and slug(words) != slug(emoji.captions["en"][0]) else (),
            licence=licence,
            author=author,
            svg=icon_svg(icons, icon, alias),
            tone=emoji.tone if emoji else 0,
        )


def _variant(source: Source, name: str) -> tuple[str, str]:
    """The style of one icon and its name without what tells variants apart."""
    if source.name == "meteocons":
        return ("weather fill" if name.endswith("-fill") else "weather line"), name.removesuffix("-fill")
    if source.name == "icon-park":
        return source.style, re.sub(r"-(two|three|four|five|six|seven|eight|nine)$", "", name)
    if source.name == "streamline-emojis":
        return source.style, re.sub(r"-\d$", "", name)
    return source.style, name


def icon_svg(icons: dict[str, Any], icon: dict[str, Any], transform: dict[str, Any]) -> str:
    """A whole SVG document for one icon; sizes default to the set's, and those to 16."""
    left, top, width, height = (
        icon.get(side, icons.get(side, default))
        for side, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    body = _at_rest(icon["body"]).replace("currentColor", ICON_COLOUR)
    if transform.get("hFlip"):
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    if transform.get("vFlip"):
        body = f'<g transform="translate(0 {2 * top + height}) scale(1 -1)">{body}</g>'
    if transform.get("rotate"):
        centre = f"{left + width / 2} {top + height / 2}"
        body = f'<g transform="rotate({90 * transform["rotate"]} {centre})">{body}</g>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{body}</svg>'
    )


def _at_rest(body: str) -> str:
    """An animated drawing standing still: what fades in is there, a moving outline has its first form."""
    body = re.sub(r' opacity="0"(?=>\s*<animate)', "", body)
    return re.sub(
        r'(<path(?![^>]*\sd=)[^>]*)>(?=<animate attributeName="d"[^>]* values="([^;"]+))', r'\1 d="\2">', body
    )


def iconify(archive: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, Any]]:
    """The icons, code points by icon and information of an `@iconify-json` package. Raises DataError."""
    wanted = {f"package/{name}.json": name for name in ("icons", "chars", "info")}
    found = {wanted[name]: json.loads(content) for name, content in members(archive, wanted.__contains__)}
    if missing := set(wanted.values()) - set(found):
        raise DataError(f"{archive.name} is no @iconify-json package: it has no {sorted(missing)[0]}.json")
    return found["icons"], found["chars"], found["info"]


def add_icon_names(folder: Path, names: EmojiNames, sources: tuple[Source, ...]) -> None:
    """Teaches `names` what sets that know their code points call an emoji, old names included."""
    for source in sources:
        if source.read is not read_icons:
            continue
        icons, chars, _ = iconify(find(folder, source.pattern))
        if not source.emoji:
            for name in icons["icons"]:
                names.add_words(name)
            continue
        keys = {name: code_key(code) for code, name in chars.items()}
        for name, key in keys.items():
            names.add_name(name, key)
        for alias, entry in icons.get("aliases", {}).items():
            if entry["parent"] in keys and set(entry) == {"parent"}:
                names.add_name(alias, keys[entry["parent"]])


def read_named_by_code(source: Source, archive: Path, names: EmojiNames) -> Iterator[Drawing]:
    """Reads WebP files that are named by code point (`@lobehub/fluent-emoji-3d`)."""
    for name, content in members(archive, lambda name: name.endswith(".webp")):
        code = Path(name).stem
        emoji = names.find_code(code)
        yield Drawing(
            key=f"{source.name}/{code}",
            source=source.name,
            style=source.style,
            concept=emoji.concept if emoji else "",
            captions=emoji.captions if emoji else {},
            licence="MIT",
            author="Microsoft Corporation, LobeHub",
            bitmap=content,
            tone=emoji.tone if emoji else 0,
        )


def read_openmoji(source: Source, archive: Path, names: EmojiNames) -> Iterator[Drawing]:
    """Reads a folder of npm `openmoji`; what Unicode does not have is named by its `openmoji.json`."""
    folder = f"package/{'black' if 'black' in source.name else 'color'}/svg/"
    entries: dict[str, dict[str, Any]] = {}
    drawn: list[tuple[str, bytes]] = []
    for name, content in members(
        archive, lambda name: name.startswith(folder) or name.endswith("data/openmoji.json")
    ):
        if name.endswith(".json"):
            entries = {entry["hexcode"]: entry for entry in json.loads(content)}
        elif name.endswith(".svg"):
            drawn.append((Path(name).stem, content))
    for code, content in drawn:
        entry = entries.get(code, {})
        emoji = names.find_code(code) if not entry.get("group", "").startswith("extras") else None
        own = entry.get("annotation", "")
        emoji = emoji or (names.find_label(own) if own else None)
        tags = [tag.strip() for tag in entry.get("openmoji_tags", "").split(",") if tag.strip()]
        yield Drawing(
            key=f"{source.name}/{code}",
            source=source.name,
            style=source.style,
            concept=emoji.concept if emoji else slug(own),
            captions=emoji.captions if emoji else ({"en": [own, *tags]} if own else {}),
            licence="CC-BY-SA-4.0",
            author=entry.get("openmoji_author", "OpenMoji"),
            svg=content.decode("utf-8"),
            tone=emoji.tone if emoji else 0,
        )


def _read_by(read: Callable[[str, str, Path, EmojiNames], Iterator[Drawing]]) -> Reader:
    return lambda source, archive, names: read(source.name, source.style, archive, names)


def _icons(name: str, style: str, *, package: str = "", emoji: bool = True) -> Source:
    package = package or name
    pattern = f"iconify-json-{package}-[0-9]*.tgz"  # a digit next: `noto` is not `noto-v1`
    return Source(name, ("npm", f"@iconify-json/{package}"), pattern, read_icons, style, emoji)


def _package(name: str, style: str, client: str, package: str, pattern: str, read: Reader) -> Source:
    return Source(name, (client, package), pattern, read, style, emoji=False)


def _openmoji(name: str, style: str) -> Source:
    return Source(name, ("npm", "openmoji@17.0.0"), "openmoji-17*.tgz", read_openmoji, style, test_only=True)


SOURCES: tuple[Source, ...] = (
    _icons("noto", "noto"),
    _icons("noto-v1", "noto v1"),
    _icons("twemoji", "twemoji"),
    _icons("fluent-flat", "flat", package="fluent-emoji-flat"),
    _icons("fluent-gradient", "gradient", package="fluent-emoji"),
    _icons("fluent-high-contrast", "line art", package="fluent-emoji-high-contrast"),
    _package(
        *("fluent-3d", "3d", "npm", "@lobehub/fluent-emoji-3d@1.1.0", "lobehub-fluent-emoji-3d-1.1*.tgz"),
        read_named_by_code,
    ),
    _icons("emojione", "emojione"),
    _icons("fxemoji", "firefox"),
    _icons("streamline-emojis", "streamline"),
    _icons("flat-color-icons", "flat icon", emoji=False),
    _icons("meteocons", "weather line", emoji=False),
    _icons("game-icons", "silhouette", emoji=False),
    _icons("icon-park", "line icon", emoji=False),
    _package(
        *("tuxpaint", "photo", "apt-get", "tuxpaint-stamps-default", "tuxpaint-stamps-default_*.deb"),
        _read_by(clipart.read_tuxpaint),
    ),
    _package(
        *("openclipart", "clip art", "apt-get", "openclipart-png", "openclipart-png_*.deb"),
        _read_by(clipart.read_openclipart),
    ),
    _openmoji("openmoji", "openmoji"),
    _openmoji("openmoji-black", "openmoji line"),
)


def load_names(folder: Path, sources: tuple[Source, ...] = SOURCES) -> EmojiNames:
    """The names of emoji that all sources in `folder` together know."""
    names = EmojiNames.load(find(folder, EMOJIBASE))
    names.add_words(MORE_WORDS)
    add_icon_names(folder, names, sources)
    return names
