"""Small made-up packages, one for each source of the pictograms corpus, and what goes into them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from unclip.data.faces import FACE_KITS, FaceKit, choices

Files = Mapping[str, bytes]
TONES = ("1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF")
TONE_NAMES = {
    "en": ("light", "medium-light", "medium", "medium-dark", "dark"),
    "de": ("helle", "mittelhelle", "mittlere", "mitteldunkle", "dunkle"),
    "ko": ("하얀", "연한 갈색", "갈색", "진한 갈색", "검은색"),
}
TONE_WORDS = {"en": "skin tone", "de": "Hautfarbe", "ko": "피부"}
EMOJI: dict[str, dict[str, tuple[str, ...]]] = {
    "1F34E": {
        "en": ("red apple", "fruit", "red"),
        "ko": ("빨간 사과", "과일"),
        "de": ("roter Apfel", "frucht", "roter apfel"),
        "fr": ("pomme rouge",),
    },
    "1F680": {"en": ("rocket", "space"), "ko": ("로켓",), "de": ("Rakete",), "it": ("razzo",)},
    "1F1EF-1F1F5": {"en": ("flag: Japan", "JP"), "ko": ("깃발: 일본",), "de": ("Flagge: Japan",)},
    "1F98B": {"en": ("butterfly", "insect"), "it": ("farfalla",)},
}
GROUPS = {
    "groups": {"1": "people-body", "4": "food-drink"},
    "subgroups": {"28": "person-role", "61": "food-fruit"},
}
GROUPED = {"1F34E": {"group": 4, "subgroup": 61}, "1F9D1-200D-1F680": {"group": 1, "subgroup": 28}}
PEOPLE = {
    "1F9D1-200D-1F680": {"en": "astronaut", "ko": "우주비행사", "de": "Astronaut(in)"},
    "1F468-200D-1F680": {"en": "man astronaut", "ko": "남자 우주비행사", "de": "Astronaut"},
    "1F469-200D-1F680": {"en": "woman astronaut", "ko": "여자 우주비행사", "de": "Astronautin"},
}


def tar_bytes(files: Files, mode: str = "w:gz") -> bytes:
    """A tar archive of `files`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def deb_bytes(files: Files) -> bytes:
    """A Debian package of `files`: an `ar` archive with a compressed tar archive in it (man 5 deb)."""
    out = b"!<arch>\n"
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": tar_bytes(files, "w:xz")}
    for name, content in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        out += content + b"\n" * (len(content) % 2)
    return out


def ellipse(
    colour: tuple[int, ...] = (200, 30, 30), size: tuple[int, int] = (80, 80), kind: str = "PNG"
) -> bytes:
    """A coloured ellipse on transparent ground."""
    image = Image.new("RGBA", size, (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((4, 4, size[0] - 5, size[1] - 5), fill=colour)
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def svg(colour: str = "#c81e1e", shape: int = 0, size: str = 'width="32" height="32"') -> str:
    """An SVG document; `shape` shifts what it shows, so that pictures differ."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 32 32">'
        f'<circle cx="{10 + shape}" cy="16" r="8" fill="{colour}"/></svg>'
    )


def body(colour: str, shape: int = 0) -> str:
    """An icon's body."""
    return f'<path fill="{colour}" d="M{2 + shape} 2h12v{14 + shape}H{2 + shape}z"/>'


def iconify(prefix: str, icons: dict[str, Any], chars: dict[str, str] | None = None, **more: Any) -> bytes:
    """An `@iconify-json` package."""
    return tar_bytes(
        {
            "package/icons.json": json.dumps(
                {"prefix": prefix, "icons": icons, "width": 32, "height": 32, **more}
            ).encode(),
            "package/chars.json": json.dumps(chars or {}).encode(),
            "package/info.json": json.dumps(
                {"name": prefix, "author": {"name": "Somebody"}, "license": {"title": "MIT", "spdx": "MIT"}}
            ).encode(),
        }
    )


def emojibase() -> bytes:
    """An `emojibase-data` package of a handful of emoji in four locales."""
    files: dict[str, bytes] = {"package/meta/groups.json": json.dumps(GROUPS).encode()}
    for locale in ("en", "ko", "de", "fr", "it"):
        entries = [
            {"hexcode": code, "label": texts[locale][0], "tags": list(texts[locale][1:])}
            for code, texts in EMOJI.items()
            if locale in texts
        ]
        for code, labels in PEOPLE.items():
            if locale in labels:
                head, *tail = code.split("-")
                skins = [
                    {
                        "hexcode": "-".join([head, tone, *tail]),
                        "label": f"{labels[locale]}: {name} {TONE_WORDS[locale]}",
                    }
                    for tone, name in zip(TONES, TONE_NAMES[locale], strict=True)
                ]
                entries.append({"hexcode": code, "label": labels[locale], "tags": ["space"], "skins": skins})
        for entry in entries:
            entry |= GROUPED.get(entry["hexcode"], {})
        files[f"package/{locale}/data.json"] = json.dumps(entries).encode()
    files["package/en/shortcodes/github.json"] = json.dumps({"1F680": ["spaceship", "go"]}).encode()
    return tar_bytes(files)


STAMP = """A Monarch butterfly.
de.utf8=Ein Monarchfalter.
ko.utf8=나비
pt_BR.utf8=Uma borboleta.
sr@latin.utf8=Leptir
"""


def write_archives(folder: Path) -> None:
    """One small package for each of the sources."""
    coloured = {
        "red-apple": {"body": body("#c00")},
        "rocket": {"body": body("#08c", 3)},
        "flag-japan": {"body": body("#f0f", 6)},
        "man-astronaut": {"body": body("#0a0", 9)},
        "man-astronaut-dark-skin-tone": {"body": body("#040", 9)},
    }
    chars = {
        "1f34e": "red-apple",
        "1f680": "rocket",
        "1f1ef-1f1f5": "flag-japan",
        "1f468-200d-1f680": "man-astronaut",
        "1f468-1f3ff-200d-1f680": "man-astronaut-dark-skin-tone",
    }
    packages = {
        "emojibase-data-17.0.0.tgz": emojibase(),
        "iconify-json-noto-1.2.9.tgz": iconify(
            "noto",
            {
                "old-rocket": {"body": body("#08c", 3), "hidden": True},
                **coloured,
                "white": {"body": body("#fff")},
            },
            chars,
            aliases={
                "apple-old": {"parent": "red-apple"},
                "rocket-left": {"parent": "rocket", "hFlip": True},
            },
        ),
        "iconify-json-noto-v1-1.2.5.tgz": iconify("noto-v1", {"apple-old": {"body": body("#c22", 1)}}),
        "iconify-json-twemoji-1.2.5.tgz": iconify("twemoji", coloured, chars),
        "iconify-json-fluent-emoji-flat-1.2.6.tgz": iconify("fluent-emoji-flat", coloured, chars),
        "iconify-json-fluent-emoji-1.2.7.tgz": iconify("fluent-emoji", coloured),
        "iconify-json-fluent-emoji-high-contrast-1.2.6.tgz": iconify(
            "fluent-emoji-high-contrast", {"rocket": {"body": body("currentColor")}}, {"1f680": "rocket"}
        ),
        "iconify-json-emojione-1.2.3.tgz": iconify(
            "emojione", {"man-astronaut-tone5": {"body": body("#123")}}
        ),
        "iconify-json-fxemoji-1.2.2.tgz": iconify(
            "fxemoji",
            {
                "redapple": {"body": body("#321")},
                "spacerocket": {"body": body("#531")},
                "qqzz": {"body": body("#1f3")},
            },
        ),
        "iconify-json-streamline-emojis-1.2.4.tgz": iconify(
            "streamline-emojis", {"rocket-2": {"body": body("#555")}}
        ),
        "iconify-json-flat-color-icons-1.2.3.tgz": iconify(
            "flat-color-icons", {"alarm-clock": {"body": body("#999")}}
        ),
        "iconify-json-meteocons-1.2.4.tgz": iconify(
            "meteocons", {"rain": {"body": body("#9cf")}, "rain-fill": {"body": body("#69f")}}
        ),
        "iconify-json-game-icons-1.2.4.tgz": iconify(
            "game-icons",
            {"rocket": {"body": body("currentColor")}, "abstract-001": {"body": body("currentColor", 4)}},
        ),
        "iconify-json-icon-park-1.2.4.tgz": iconify(
            "icon-park", {"alarm-clock-two": {"body": body("#2F88FF")}}
        ),
        "lobehub-fluent-emoji-3d-1.1.0.tgz": tar_bytes(
            {
                "package/assets/1f34e.webp": ellipse((200, 0, 0), (256, 256), "WEBP"),
                "package/assets/1f1ef-1f1f5.webp": ellipse((0, 0, 200), (256, 256), "WEBP"),
                "package/assets/2b55.webp": ellipse((9, 9, 9), (256, 256), "WEBP"),
            }
        ),
        "openmoji-17.0.0.tgz": tar_bytes(
            {
                "package/color/svg/1F34E.svg": svg("#d00").encode(),
                "package/color/svg/E000.svg": svg("#0d0").encode(),
                "package/black/svg/1F34E.svg": svg("#000", 5).encode(),
                "package/data/openmoji.json": json.dumps(
                    [
                        {
                            "hexcode": "1F34E",
                            "annotation": "red apple",
                            "group": "food",
                            "openmoji_author": "A",
                        },
                        {
                            "hexcode": "E000",
                            "annotation": "goldfish",
                            "group": "extras-openmoji",
                            "openmoji_tags": "fish, water",
                            "openmoji_author": "B",
                        },
                    ]
                ).encode(),
            }
        ),
        "tuxpaint-stamps-default_2022.06.04-1_all.deb": deb_bytes(
            {
                "./usr/share/tuxpaint/stamps/animals/insects/monarch.png": ellipse((240, 140, 0)),
                "./usr/share/tuxpaint/stamps/animals/insects/monarch.txt": STAMP.encode(),
                "./usr/share/tuxpaint/stamps/animals/insects/monarch_desc.ogg": b"sound",
                "./usr/share/tuxpaint/stamps/town/long.png": ellipse((1, 2, 3), (200, 60)),
                "./usr/share/tuxpaint/stamps/town/long.txt": b"A train.\n",
                "./usr/share/tuxpaint/stamps/town/nothing.png": ellipse((3, 2, 1)),
            }
        ),
        "openclipart-png_1%3a0.18+dfsg-19_all.deb": deb_bytes(
            {
                "./usr/share/openclipart/png/transportation/rocket_benji_park_01.png": ellipse((90, 90, 90)),
                "./usr/share/openclipart/png/transportation/qzxw_01.png": ellipse((9, 90, 9)),
                "./usr/share/openclipart/png/animals/bugs/farfalla_architetto_fra_01.png": ellipse(
                    (90, 9, 90)
                ),
                "./usr/share/openclipart/png/signs_and_symbols/flags/asia/japan.png": ellipse((250, 9, 90)),
                "./usr/share/openclipart/png/plants/broken_rocket.png": b"\x89PNG\r\n\x1a\n nothing",
            }
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in packages.items():
        (folder / name).write_bytes(content)


def write_later_archives(folder: Path) -> None:
    """One small package for each source that came later, and for each kit of faces."""
    disc = '<g fill="none"><path fill="#fabc3d" d="M24 47.998c13.255 0 24-10.745 24-24"/>'
    plain = {"rocket": {"body": body("#0a8", 4)}, "tool-box": {"body": body("#a80", 5)}}
    flags = {"jp": {"body": body("#e00", 2)}, "us-ca": {"body": body("#00e", 2)}}
    signs = {"pie-chart": {"body": body("#8fbffa")}, "pie-chart-flat": {"body": body("#2859c5", 3)}}
    packages = {
        "streamline-ultimate-color-1.2.2": {
            **plain,
            "wechat-logo": {"body": body("#0f0")},
            "logout-door": {"body": body("#12a", 7)},
        },
        "streamline-kameleon-color-1.2.2": {
            "bomb": {"body": f'{disc}<path fill="#434c6d" d="M2 2h12v14H2z"/></g>'},
            "bank": {"body": f'{disc}<path fill="#f4f4f4" d="M2 2h12v14H2z"/></g>'},
            "bomb-duo": {"body": body("#00f")},
            "spongebob": {"body": body("#ff0")},
        },
        "streamline-stickies-color-1.2.2": {"snow-man": {"body": body("#5ef", 6)}},
        "fluent-color-1.2.21": {"book-16": {"body": body("#36c")}, "book-48": {"body": body("#36d", 8)}},
        "circle-flags-1.2.11": {**flags, "ja": {"body": body("#e01"), "hidden": True}},
        "flag-1.2.12": {"jp-4x3": {"body": body("#e02", 3)}, "jp-1x1": {"body": body("#e03")}},
        "flagpack-1.2.8": flags,
        "cif-1.2.7": flags,
        **{f"streamline{kind}-color-1.2.2": signs for kind in ("", "-flex", "-plump", "-sharp")},
    }
    for name, icons in packages.items():
        (folder / f"iconify-json-{name}.tgz").write_bytes(iconify(name, icons))
    metadata = (
        '<metadata xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Bag><rdf:li>hash</rdf:li>'
        "<rdf:li>space</rdf:li></rdf:Bag></metadata>"
    )
    drawn = svg("#505a5a", 2).replace("</svg>", f"{metadata}</svg>").encode()
    (folder / "openclipart-svg_1%3a0.18+dfsg-19_all.deb").write_bytes(
        deb_bytes({"./usr/share/openclipart/svg/transportation/rocket_benji_park_01.svg": drawn})
    )
    for kit in FACE_KITS:
        (folder / kit.pattern).write_bytes(_face_package(kit))


def _face_package(kit: FaceKit) -> bytes:
    """A package of parts of faces: all variants of a slot are strips of one place, of different heights."""
    slots: dict[str, list[str]] = {}
    for choice in choices(kit):
        for slot, variant in choice.items():
            slots.setdefault(slot, [])
            if variant not in slots[slot]:
                slots[slot].append(variant)
    files, whole = {}, ""
    for row, (slot, variants) in enumerate(slots.items()):
        fill = "${escape.xml(`${colors.hair}`)}" if row % 2 else "#c03030"
        lines = [
            f'    {variant}: (components, colors) => `<rect y="{8 * row}" width="64" height="{n + 2}" '
            f'fill="{fill}"/>`,'
            for n, variant in enumerate(variants)
        ]
        text = "\n".join([f"export const {slot} = {{", *lines, "};"])
        files[f"package/lib/components/{slot}.js"] = text.encode()
        whole += (
            f"<g>${{(_b = (_a = components.{slot}) === null || _a === void 0 ? void 0 : "
            "_a.value(components, colors)) !== null && _b !== void 0 ? _b : ''}</g>"
        )
    files["package/lib/components/index.js"] = b"export * from './hair.js';"
    files["package/lib/index.js"] = (
        "    creator: 'Somebody',\n    license: {\n        name: 'CC BY 4.0',\n"
        f"    viewBox: '0 0 64 64',\n        body: `{whole}`,\n"
    ).encode()
    return tar_bytes(files)
