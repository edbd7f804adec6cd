"""Phrases for each style of the corpus in English, Korean and German.

`{n}` is a name ("red apple"), `{a}` the name with its English article ("a red apple"). The first phrase
of a language is the plainest one. German phrases keep the name in the nominative and Korean ones need no
particle after it, so that any name fits.
"""

from __future__ import annotations

ANY_STYLE = "any"  # in place of a style's name: none is added to the prompt

STYLE_PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "noto": {
        "en": ("{n}, Noto emoji", "{n} emoji", "a Noto emoji of {a}", "{a}, emoji in the Noto style"),
        "ko": ("{n}, 노토 이모지", "{n} 이모지", "노토 스타일의 {n}"),
        "de": ("{n}, Noto-Emoji", "{n} als Emoji", "{n} im Noto-Stil"),
    },
    "noto v1": {
        "en": ("{n}, old Noto emoji", "{n}, blob emoji", "{n} emoji, old Android style"),
        "ko": ("{n}, 옛날 노토 이모지", "{n}, 옛날 안드로이드 이모지"),
        "de": ("{n}, altes Noto-Emoji", "{n}, altes Android-Emoji"),
    },
    "twemoji": {
        "en": ("{n}, Twemoji", "{n}, Twitter emoji", "a Twitter emoji of {a}", "{n}, flat emoji"),
        "ko": ("{n}, 트위터 이모지", "트위터 스타일의 {n}", "{n}, 플랫 이모지"),
        "de": ("{n}, Twitter-Emoji", "{n} als Twitter-Emoji", "{n}, flaches Emoji"),
    },
    "flat": {
        "en": (
            "{n}, flat",
            "{a}, flat design",
            "flat illustration of {a}",
            "{n}, flat style",
            "a flat drawing of {a}",
        ),
        "ko": ("{n}, 플랫", "{n}, 플랫 디자인", "플랫 스타일의 {n}", "플랫 디자인으로 그린 {n}"),
        "de": ("{n}, flach", "{n} im flachen Stil", "{n}, Flat Design", "flache Illustration: {n}"),
    },
    "gradient": {
        "en": (
            "{n}, gradient",
            "{n}, gradient style",
            "{a} with color gradients",
            "smooth gradient drawing of {a}",
        ),
        "ko": ("{n}, 그라데이션", "그라데이션 스타일의 {n}", "그라데이션으로 그린 {n}"),
        "de": ("{n}, Farbverlauf", "{n} mit Farbverläufen", "{n} im Verlaufsstil"),
    },
    "line art": {
        "en": (
            "{n}, line art",
            "line drawing of {a}",
            "black and white drawing of {a}",
            "{n}, black and white line art",
        ),
        "ko": ("{n}, 선화", "{n} 선 그림", "{n}, 흑백 선화", "흑백으로 그린 {n}"),
        "de": (
            "{n}, Strichzeichnung",
            "{n} als Strichzeichnung",
            "Schwarz-Weiß-Zeichnung: {n}",
            "{n}, schwarz-weiß",
        ),
    },
    "3d": {
        "en": ("{n}, 3D", "3D render of {a}", "a 3D {n}", "{n}, 3D style", "{a}, glossy 3D rendering"),
        "ko": ("{n}, 3D", "3D {n}", "{n} 3D 렌더링", "{n}, 3D 스타일", "3D로 만든 {n}"),
        "de": ("{n}, 3D", "{n} in 3D", "3D-Rendering: {n}", "{n} als 3D-Bild", "{n} im 3D-Stil"),
    },
    "emojione": {
        "en": ("{n}, EmojiOne", "an EmojiOne emoji of {a}", "{n}, EmojiOne style"),
        "ko": ("{n}, 이모지원", "이모지원 스타일의 {n}"),
        "de": ("{n}, EmojiOne", "{n} im EmojiOne-Stil"),
    },
    "firefox": {
        "en": ("{n}, Firefox emoji", "{n}, Firefox OS emoji", "a Firefox emoji of {a}"),
        "ko": ("{n}, 파이어폭스 이모지", "파이어폭스 스타일의 {n}"),
        "de": ("{n}, Firefox-Emoji", "{n} im Firefox-Stil"),
    },
    "streamline": {
        "en": ("{n}, outlined cartoon", "{n}, Streamline emoji", "cartoon of {a} with dark outlines"),
        "ko": ("{n}, 외곽선 만화", "{n}, 스트림라인 이모지", "굵은 외곽선으로 그린 {n}"),
        "de": ("{n}, Cartoon mit Umriss", "{n}, Streamline-Emoji", "{n} mit dunklen Umrissen"),
    },
    "flat icon": {
        "en": ("{n} icon", "flat icon of {a}", "{n}, flat color icon"),
        "ko": ("{n} 아이콘", "{n}, 플랫 아이콘"),
        "de": ("{n}, Icon", "flaches Icon: {n}", "{n} als Symbol"),
    },
    "weather line": {
        "en": ("{n}, outlined weather icon", "{n}, weather icon", "weather symbol: {n}"),
        "ko": ("{n}, 선으로 그린 날씨 아이콘", "{n} 날씨 아이콘"),
        "de": ("{n}, Wettersymbol als Umriss", "Wettersymbol: {n}"),
    },
    "weather fill": {
        "en": ("{n}, filled weather icon", "{n}, weather icon", "weather symbol: {n}"),
        "ko": ("{n}, 채워진 날씨 아이콘", "{n} 날씨 아이콘"),
        "de": ("{n}, gefülltes Wettersymbol", "Wettersymbol: {n}"),
    },
    "silhouette": {
        "en": ("{n}, silhouette", "silhouette of {a}", "{n}, black silhouette", "black pictogram of {a}"),
        "ko": ("{n}, 실루엣", "{n} 실루엣", "{n}, 검은 실루엣", "{n} 픽토그램"),
        "de": ("{n}, Silhouette", "{n} als Silhouette", "schwarze Silhouette: {n}", "{n} als Piktogramm"),
    },
    "line icon": {
        "en": (
            "{n}, line icon",
            "line icon of {a}",
            "{n}, blue outline icon",
            "{n} icon with thick outlines",
        ),
        "ko": ("{n}, 선 아이콘", "{n} 라인 아이콘", "{n}, 파란 선 아이콘"),
        "de": ("{n}, Liniensymbol", "{n} als Linien-Icon", "blaues Liniensymbol: {n}"),
    },
    "photo": {
        "en": ("photo of {a}", "a photo of {a}", "{n}, photograph", "a photograph of {a} on white"),
        "ko": ("{n} 사진", "{n}, 사진", "흰 배경의 {n} 사진"),
        "de": ("{n}, Foto", "Foto: {n}", "{n} als Foto", "Fotografie: {n}"),
    },
    "cartoon": {
        "en": ("{n}, cartoon", "cartoon of {a}", "a cartoon drawing of {a}"),
        "ko": ("{n}, 만화", "{n} 만화 그림", "만화로 그린 {n}"),
        "de": ("{n}, Cartoon", "{n} als Comic", "Cartoon: {n}"),
    },
    "clip art": {
        "en": ("{n}, clip art", "clip art of {a}", "{n} clip art"),
        "ko": ("{n}, 클립아트", "{n} 클립아트"),
        "de": ("{n}, Clipart", "Clipart: {n}", "{n} als Clipart"),
    },
    "black and white clip art": {
        "en": ("{n}, black and white clip art", "outline clip art of {a}"),
        "ko": ("{n}, 흑백 클립아트", "{n} 흑백 그림"),
        "de": ("{n}, schwarz-weiße Clipart", "{n} als Umrisszeichnung"),
    },
    "desktop icon": {
        "en": ("{n}, computer icon", "desktop icon of {a}", "{n} icon"),
        "ko": ("{n}, 컴퓨터 아이콘", "{n} 바탕화면 아이콘"),
        "de": ("{n}, Computersymbol", "{n} als Desktop-Icon"),
    },
    "portrait": {
        "en": ("{n}, avatar", "{n}, flat portrait", "avatar: {n}"),
        "ko": ("{n}, 아바타", "{n} 초상화"),
        "de": ("{n}, Avatar", "{n} als Porträt"),
    },
    "cartoon head": {
        "en": ("{n}, cartoon head", "cartoon head: {n}", "{n}, comic avatar"),
        "ko": ("{n}, 만화 얼굴", "만화 아바타: {n}"),
        "de": ("{n}, Comic-Kopf", "{n} als Comic-Avatar"),
    },
    "cartoon portrait": {
        "en": ("{n}, cartoon portrait", "cartoon portrait: {n}"),
        "ko": ("{n}, 만화 초상화", "만화 인물: {n}"),
        "de": ("{n}, Comic-Porträt", "{n} als Comic-Porträt"),
    },
    "outlined icon": {
        "en": (
            "{n}, outlined color icon",
            "color icon of {a} with black outlines",
            "{n} icon, black outlines",
        ),
        "ko": ("{n}, 검은 외곽선 컬러 아이콘", "검은 외곽선의 {n} 아이콘"),
        "de": ("{n}, farbiges Icon mit Umriss", "{n} als Icon mit schwarzem Umriss"),
    },
    "bright icon": {
        "en": ("{n}, bright flat icon", "bright icon of {a}", "{n} icon in bright colors"),
        "ko": ("{n}, 밝은 아이콘", "밝은 색 {n} 아이콘"),
        "de": ("{n}, buntes Icon", "buntes Icon: {n}"),
    },
    "doodle icon": {
        "en": ("{n}, doodle", "doodle of {a}", "{n}, hand-drawn sticker"),
        "ko": ("{n}, 낙서", "손으로 그린 {n} 스티커"),
        "de": ("{n}, Kritzelei", "{n} als Aufkleber", "gekritzelt: {n}"),
    },
    "glossy icon": {
        "en": ("{n}, glossy icon", "glossy icon of {a}", "{n} icon with soft gradients"),
        "ko": ("{n}, 광택 아이콘", "그라데이션 {n} 아이콘"),
        "de": ("{n}, glänzendes Icon", "glänzendes Icon: {n}"),
    },
    "round flag": {
        "en": ("{n}, round", "{n} in a circle", "round icon: {n}"),
        "ko": ("{n}, 둥근 모양", "둥근 {n}"),
        "de": ("{n}, rund", "{n} im Kreis"),
    },
    "plain flag": {
        "en": ("{n}, rectangular", "{n}, plain rectangle", "{n} lying flat"),
        "ko": ("{n}, 직사각형", "네모난 {n}"),
        "de": ("{n}, rechteckig", "{n} als Rechteck"),
    },
    "interface sign": {
        "en": ("{n}, interface sign", "blue interface sign: {n}", "{n} sign, two blues"),
        "ko": ("{n}, 인터페이스 기호", "파란 {n} 기호"),
        "de": ("{n}, Bedienzeichen", "blaues Zeichen: {n}"),
    },
    "openmoji": {
        "en": ("{n}, OpenMoji", "{n}, emoji with black outlines"),
        "ko": ("{n}, 오픈모지", "{n}, 검은 외곽선 이모지"),
        "de": ("{n}, OpenMoji", "{n}, Emoji mit schwarzem Umriss"),
    },
    "openmoji line": {
        "en": ("{n}, OpenMoji line drawing", "line drawing of {a}"),
        "ko": ("{n}, 오픈모지 선화", "{n} 선 그림"),
        "de": ("{n}, OpenMoji-Strichzeichnung", "{n} als Strichzeichnung"),
    },
}


def phrases(style: str, language: str) -> tuple[str, ...]:
    """The phrases of a style; a style that is not listed is said by its own name after the caption."""
    if style in STYLE_PHRASES:
        return STYLE_PHRASES[style].get(language, ())
    return (f"{{n}}, {style.replace('{', '(').replace('}', ')')}",) if style else ()
