"""Readers of Debian's packages, Tux Paint's stamps and Open Clip Art, and of names in file names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from unclip.data.archives import members
from unclip.data.emojibase import Emoji, EmojiNames
from unclip.data.records import Drawing, Fit
from unclip.data.wording import plain_words, slug
from unclip.errors import InputError
from unclip.images import open_image

STAMPS, CLIPART = "usr/share/tuxpaint/stamps/", "usr/share/openclipart/"
ARTICLES = {
    "en": r"(?:an?|the|some)\s+",
    "de": r"(?:eine?|der|die|das|ein paar)\s+",
    "fr": r"(?:une?|des?|les?|la)\s+|l'",
    "es": r"(?:una?|unos|unas|el|la|los|las)\s+",
    "it": r"(?:una?|uno|il|lo|la|i|gli|le)\s+|un'|l'",
    "nl": r"(?:een|de|het)\s+",
    "pt": r"(?:uma?|os?|as?)\s+",
    "da": r"(?:en|et)\s+",
    "nb": r"(?:en|et|ei)\s+",
    "sv": r"(?:en|ett)\s+",
}
LOCALES = {"zh_cn": "zh", "zh_tw": "zh-hant"}
# Names of people that Open Clip Art's file names end in, whole; cut-off forms are recognised by their
# beginning.
AUTHORS = (
    "architetto francesco rollandini", "benji park", "nicu buculei", "jarno vasamaa", "gerald g",
    "jon phillips", "linda kim", "juliane krug", "jean victor balin", "dan gerhards", "matthew gates",
    "luiz araujo", "susan park", "frederic moser", "yves guillou", "matt todd", "dave pena",
    "anthony liekens", "mauro olivo", "aj ashton", "toh yen cheng", "fudriot omic", "patricia fidi",
    "roman bertle", "christoph brill", "nathan eady", "anton yu", "guillaume boitel", "costea bogdan",
    "leif lodahl", "jonathan dietrich", "charles mccolm", "jakob chaosi", "andy fitzsimon",
    "ruairi hann", "lumen design studios", "michael breuer", "dirk struve", "stefan bazelkov",
    "enrique meza", "snuatautisticido", "nurbldoff", "ganson", "peterm", "mimooh", "zazou", "jonadab",
    "uliphant", "blueman", "brice boyer", "dennis bo", "marcelo staudt", "daniel steele", "k yager",
    "aubanel monnier", "angelo gelmi", "tess brady", "konstantin r", "stuart moore", "roberto u",
    "etienne bersac", "erwan", "romus", "frouke", "mateya", "clemente", "abiclipart", "steren giannini",
    "stepan klimov", "fabio", "rollandin francesco", "kevin", "lars", "nicola", "simone", "jasper",
    "paolo", "drawn with straight lines", "christian", "chaspo", "denco",
)  # fmt: skip
NOISE = {
    "aiga", "alt", "ani", "art", "bw", "bwh", "clip", "clipart", "copy", "design", "dpi", "drawing",
    "file", "fs", "gnome", "gtk", "icon", "image", "kde", "mime", "mo", "ooo", "picture", "png", "pt",
    "px", "r", "remix", "rpgmap", "sm", "stock", "svg", "txt", "untitled", "x", "xfce",
}  # fmt: skip
FOLDER_NAMES = {
    "mammals": "animal", "bugs": "insect", "birds": "bird", "fish": "fish", "housecats": "cat",
    "dogs": "dog", "horses": "horse", "big_cats": "cat", "flowers": "flower", "trees": "tree",
    "fruit": "fruit", "vegetables": "vegetable", "desserts": "dessert", "beverages": "drink",
    "sports": "sport", "weapons": "weapon", "vehicles": "vehicle", "furniture": "furniture",
    "homes": "house", "flags": "flag", "dinosaurs": "dinosaur", "hats": "hat", "clothing": "clothing",
    "music": "music", "stars": "star", "christmas": "christmas", "easter": "easter",
    "amphibian": "amphibian", "penguin": "penguin", "weather": "weather", "money": "money",
    "food": "food", "animals": "animal", "plants": "plant", "buildings": "building", "tools": "tool",
    "people": "person", "toys": "toy", "smilies": "smiley", "arrows": "arrow",
    "jigsaw": "jigsaw puzzle piece", "roadsigns": "road sign", "hardware": "computer",
    "folders": "folder", "cards": "playing card", "astronomy": "astronomy", "medicine": "medicine",
    "office": "office", "books": "book", "bulb": "light bulb", "battery": "battery",
    "telephone": "telephone", "gradients": "gradient", "patterns": "pattern",
}  # fmt: skip


OPAQUE = 255
MOST_EQUAL_NEIGHBOURS = 0.25
LONGEST_NAME = 9  # words
# Pictures that say "Linked image not found" where a part of them was missing when they were drawn.
INCOMPLETE = ("people/stylized_yoga_person_", "recreation/religion/creation_day_7_")
CARD_NAME = re.compile(r"(?:^|_)([hdcs])_(10|[2-9]|[ajqk])$")
CARD_SUITS = {"h": "hearts", "d": "diamonds", "c": "clubs", "s": "spades"}
CARD_VALUES = {"a": "ace", "j": "jack", "q": "queen", "k": "king"}
KEYWORD = re.compile(r"<rdf:li>([^<]+)</rdf:li>")
# Keywords that say how pictures were made or filed.
EMPTY_KEYWORDS = {
    "hash", "magick", "geometry", "special", "unsorted", "theme", "icons", "icon", "action", "application",
    "menu", "webpage", "device", "sign", "symbol", "shape", "shapes", "image", "clip art", "white", "simple",
    "computer", "lemon theme icon", "signs and symbols",
}  # fmt: skip
MOST_KEYWORDS = 8
SHORT = {"tv", "cd", "pc", "ox", "up", "no", "in"}
LINKS = {"with", "and", "the", "of", "in", "for", "to", "on", "from"}
# Words that say nothing of what is shown, unless another word stands beside them.
PLAIN = {
    "and", "bitten", "black", "blue", "contour", "di", "for", "from", "frontale", "green", "in",
    "lower", "modern", "new", "no", "of", "on", "outline", "plain", "red", "round", "set", "simple",
    "stylized", "symbol", "the", "to", "up", "upper", "verde", "white", "with",
}  # fmt: skip


def read_tuxpaint(source: str, style: str, archive: Path, names: EmojiNames) -> Iterator[Drawing]:
    """Reads the stamps: PNG or SVG, and a `.txt` with a line of English and then `de.utf8=...`."""
    texts: dict[str, str] = {}
    pictures: dict[str, dict[str, bytes]] = {}
    for name, content in members(
        archive, lambda name: name.startswith(STAMPS) and name.endswith((".png", ".svg", ".txt"))
    ):
        path = PurePosixPath(name.removeprefix(STAMPS))
        stem = str(path.with_suffix(""))
        if path.suffix == ".txt":
            texts[stem] = content.decode("utf-8", errors="replace")
        else:
            pictures.setdefault(stem, {})[path.suffix] = content
    for stem, files in sorted(pictures.items()):
        captions = stamp_captions(texts.get(stem, ""))
        emoji = names.find_label(captions["en"][0]) if "en" in captions else None
        if len(captions.get("en", [""])[0].split()) > LONGEST_NAME:
            captions = {}  # a story about the stamp, not a name of it
        drawn = ".svg" in files or "cartoon" in stem or not is_photo(files[".png"])
        yield Drawing(
            key=f"{source}/{stem}",
            source=source,
            style=("clip art" if stem.startswith("symbols/") else "cartoon") if drawn else style,
            concept=emoji.concept if emoji else slug(captions["en"][0]) if "en" in captions else "",
            captions=_merged(captions, emoji.captions if emoji else {}),
            licence="GPL-2.0-only",
            author="Tux Paint contributors",
            svg=files[".svg"].decode("utf-8") if ".svg" in files else None,
            bitmap=files.get(".png") if ".svg" not in files else None,
            fit=Fit.TRIM,
        )


def is_photo(content: bytes) -> bool:
    """True of a photograph: hardly any two neighbouring pixels of it are the same.

    Of 150 stamps looked at by eye all were told apart rightly: photographs have a share of equal
    neighbours up to 0.22, drawings from 0.25 on, but for two small ones. What cannot be read counts as
    none.
    """
    try:
        rgba = np.asarray(open_image(content).convert("RGBA"))  # (H, W, 4)
    except InputError:
        return False
    opaque = (rgba[:, 1:, 3] == OPAQUE) & (rgba[:, :-1, 3] == OPAQUE)
    same = (rgba[:, 1:, :3] == rgba[:, :-1, :3]).all(axis=-1)
    return bool(opaque.any()) and float(same[opaque].mean()) < MOST_EQUAL_NEIGHBOURS


def stamp_captions(text: str) -> dict[str, list[str]]:
    """Captions of a stamp's `.txt`: the bare name and, if there is an article, the phrase with it."""
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines()):
        match = re.fullmatch(r"([A-Za-z_@]+)\.utf8=(.*)", line.strip())
        if match is None and number > 0:
            continue
        language = match[1].lower() if match else "en"
        phrase = (match[2] if match else line).strip(" \t.。|।!\ufeff")
        language = LOCALES.get(language, language).replace("_", "-")
        if not phrase or "@" in language or language in {"en-au", "en-gb", "en-ca", "en-za"}:
            continue
        phrase = re.split(r"[.。](?:\s|$)|—", phrase)[0].strip(" –-")
        if language == "en":
            phrase = re.split(r" (?:is|lets|means) ", phrase)[
                0
            ]  # "A mince pie is a traditional Christmas food"
        bare = (
            re.sub(rf"^(?:{ARTICLES[language]})", "", phrase, flags=re.IGNORECASE)
            if language in ARTICLES
            else phrase
        )
        if language == "en" and bare != phrase:
            bare = bare[:1].lower() + bare[1:] if bare[1:2].islower() and bare != phrase else bare
        captions[language] = [bare] if bare == phrase else [bare, phrase[:1].lower() + phrase[1:]]
    return captions


def _merged(own: dict[str, list[str]], other: dict[str, list[str]]) -> dict[str, list[str]]:
    languages = [*own, *(language for language in other if language not in own)]
    return {
        language: list(dict.fromkeys([*own.get(language, ()), *other.get(language, ())]))
        for language in languages
    }


def read_openclipart(source: str, style: str, archive: Path, names: EmojiNames) -> Iterator[Drawing]:
    """Reads the PNG files; captions are made of the names of file and folders."""
    vocabulary = names.vocabulary()
    for path, content in _clipart(archive, "png"):
        caption, tags, emoji = _named(path, names, vocabulary)
        bitmap = b"" if str(path).startswith(INCOMPLETE) else content  # empty: counted as broken
        yield _clipart_drawing(source, clipart_style(path, style), path, caption, tags, emoji, bitmap=bitmap)


def read_openclipart_svg(source: str, style: str, archive: Path, names: EmojiNames) -> Iterator[Drawing]:
    """Reads the SVG files: the pictures of the PNG files, called the same, and their keywords as tags."""
    vocabulary = names.vocabulary()
    for path, content in _clipart(archive, "svg"):
        caption, tags, emoji = _named(path, names, vocabulary)
        svg = "" if str(path).startswith(INCOMPLETE) else content.decode("utf-8", errors="replace")
        tags = list(dict.fromkeys([*tags, *keywords(svg, vocabulary)]))
        own = [tag for tag in tags if tag != caption]
        yield _clipart_drawing(source, clipart_style(path, style), path, caption, own, emoji, svg=svg)


def _clipart(archive: Path, kind: str) -> Iterator[tuple[PurePosixPath, bytes]]:
    """The pictures of one kind with their paths in the library."""
    folder = f"{CLIPART}{kind}/"
    for name, content in members(archive, lambda name: name.startswith(folder) and name.endswith(f".{kind}")):
        yield PurePosixPath(name.removeprefix(folder)), content


def _named(
    path: PurePosixPath, names: EmojiNames, vocabulary: frozenset[str]
) -> tuple[str, list[str], Emoji | None]:
    """The caption and tags of a file by its path, and the emoji that it shows, if it does."""
    caption, tags = clipart_caption(path, vocabulary)
    if "flags" in path.parts and caption and "semaphore" not in path.parts:
        emoji = names.find_label(f"flag: {caption}")
        caption = emoji.captions["en"][0] if emoji else f"flag of {caption}"
    else:
        emoji = names.find_label(caption) if caption else None
        if emoji is None and (known := _foreign(path, names)):
            emoji, caption = known, known.captions["en"][0]
    return caption, tags, emoji


def _clipart_drawing(
    source: str,
    style: str,
    path: PurePosixPath,
    caption: str,
    tags: list[str],
    emoji: Emoji | None,
    *,
    svg: str | None = None,
    bitmap: bytes | None = None,
) -> Drawing:
    return Drawing(
        key=f"{source}/{path.with_suffix('')}",
        source=source,
        style=style,
        concept=emoji.concept if emoji else slug(caption),
        captions=_merged({"en": [caption, *tags]} if caption else {}, emoji.captions if emoji else {}),
        licence="CC-PDDC",
        author="Open Clip Art contributors",
        svg=svg,
        bitmap=bitmap,
        fit=Fit.TRIM,
    )


def keywords(svg: str, vocabulary: frozenset[str]) -> list[str]:
    """The keywords in a document's own metadata, of words that `vocabulary` knows."""
    found = (plain_words(without_author(plain_words(text))) for text in KEYWORD.findall(svg))
    kept = (text for text in found if text and text not in EMPTY_KEYWORDS and set(text.split()) <= vocabulary)
    return list(dict.fromkeys(text for text in kept if len(text.split()) <= 3))[:MOST_KEYWORDS]


def _foreign(path: PurePosixPath, names: EmojiNames) -> Emoji | None:
    """The emoji whose Italian or French name is the file's name, or its first word."""
    text = without_author(plain_words(re.sub(r"\d+", " ", path.stem)))
    return names.find_foreign(text) or (names.find_foreign(text.split()[0]) if text else None)


def clipart_style(path: PurePosixPath, style: str) -> str:
    """`clip art`, or `desktop icon` for the icon themes among it, or `black and white clip art`."""
    if path.parts[0] == "computer" and "icons" in path.parts:
        return "desktop icon"
    if re.search(r"(?:^|_)(bw|bwh|outline|lineart)(?:_|\d|$)", path.stem.lower()):
        return "black and white clip art"
    return style


def clipart_caption(path: PurePosixPath, vocabulary: frozenset[str]) -> tuple[str, list[str]]:
    """(caption, tags) of a file from its name and its folders; `("", tags)` where neither says what it
    shows.

    Words that `vocabulary` does not know are left out, since many are cut short or belong to an author. A
    file whose name has no known word is called after its folder, if that is the name of a thing:
    `animals/birds` is a bird.
    """
    tags = list(
        dict.fromkeys(FOLDER_NAMES[part] for part in reversed(path.parts[:-1]) if part in FOLDER_NAMES)
    )
    if "stars" in path.parts:
        return "geometric star pattern", ["star", "lines"]  # star polygons by the hundred, thin grey lines
    if "cards" in path.parts and (card := CARD_NAME.search(path.stem)):
        return f"{CARD_VALUES.get(card[2], card[2])} of {CARD_SUITS[card[1]]}", tags
    if "semaphore" in path.parts:
        return f"semaphore {path.stem.removeprefix('semaphore_')}", ["signal", "person"]
    text = without_author(plain_words(re.sub(r"\d+", " ", path.stem)))
    if "flags" in path.parts:
        return _flag_name(text, path), tags
    kept = [
        word
        for word in text.split()
        if word in vocabulary and word not in NOISE and (len(word) > 2 or word in SHORT)
    ]
    while kept and kept[-1] in LINKS:
        kept.pop()
    if all(word in PLAIN for word in kept):
        return (tags[0] if tags and path.parts[-2] in FOLDER_NAMES else ""), tags[1:]
    return " ".join(kept[:6]), [tag for tag in tags if tag not in kept]


def _flag_name(text: str, path: PurePosixPath) -> str:
    parts = [
        part for part in text.split() if part not in {"flag", "usa", "of", "the", "new1"} and len(part) > 1
    ]
    country = path.parts[-2].replace("_", " ").split()
    if parts[: len(country)] == country and len(parts) > len(country):
        parts = parts[len(country) :]  # france/france_champagne is the flag of Champagne
    return " ".join(parts)


def without_author(text: str) -> str:
    """Cuts a trailing author's name off, also where the file system's limit has cut it short."""
    parts = text.split()
    for start in range(1, len(parts)):
        rest = " ".join(parts[start:])
        if len(parts[start]) > 2 and "architetto".startswith(parts[start]) and parts[start] != "arch":
            return " ".join(parts[:start])
        if any(author.startswith(rest) and len(rest) >= min(len(author), 4) for author in AUTHORS):
            return " ".join(parts[:start])
        if any(rest == author or rest.startswith(author + " ") for author in AUTHORS if len(author) > 5):
            return " ".join(parts[:start])
    return text
