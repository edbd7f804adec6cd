"""Languages: their scripts, their commonest words, and prompts that are in none that a model reads.

Scripts are told apart surely. Of languages in Latin letters only those prompts are recognised that have two
articles, prepositions or colours of another one, or a letter that the model's languages do not have. Of the
names of emoji in emojibase 17 that is all in other scripts, 94 % in Vietnamese, 30 % in Portuguese, 11 % in
French, 2 % in Dutch; and of those in English and German 0.2 % by mistake (Curaçao, Åland).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

# Codes of BCP 47, with the scripts as Unicode's names of letters begin.
LATIN, CYRILLIC = ("LATIN",), ("CYRILLIC",)
LANGUAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ar": ("Arabic", ("ARABIC",)),
    "bg": ("Bulgarian", CYRILLIC),
    "bn": ("Bengali", ("BENGALI",)),
    "cs": ("Czech", LATIN),
    "da": ("Danish", LATIN),
    "de": ("German", LATIN),
    "el": ("Greek", ("GREEK",)),
    "en": ("English", LATIN),
    "es": ("Spanish", LATIN),
    "et": ("Estonian", LATIN),
    "fa": ("Persian", ("ARABIC",)),
    "fi": ("Finnish", LATIN),
    "fr": ("French", LATIN),
    "he": ("Hebrew", ("HEBREW",)),
    "hi": ("Hindi", ("DEVANAGARI",)),
    "hu": ("Hungarian", LATIN),
    "id": ("Indonesian", LATIN),
    "it": ("Italian", LATIN),
    "ja": ("Japanese", ("HIRAGANA", "KATAKANA", "CJK")),
    "ko": ("Korean", ("HANGUL",)),
    "lt": ("Lithuanian", LATIN),
    "ms": ("Malay", LATIN),
    "nb": ("Norwegian", LATIN),
    "nl": ("Dutch", LATIN),
    "pl": ("Polish", LATIN),
    "pt": ("Portuguese", LATIN),
    "ro": ("Romanian", LATIN),
    "ru": ("Russian", CYRILLIC),
    "sv": ("Swedish", LATIN),
    "th": ("Thai", ("THAI",)),
    "tr": ("Turkish", LATIN),
    "uk": ("Ukrainian", CYRILLIC),
    "vi": ("Vietnamese", LATIN),
    "zh": ("Chinese", ("CJK", "BOPOMOFO")),
}
JAPANESE = ("HIRAGANA", "KATAKANA")
CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
SHARE = 0.25  # of a prompt's letters, from which on those of another script are no names or symbols
MARKS = 2
WORD = re.compile(r"[^\W\d_]+")

# Articles, prepositions and colours of languages in Latin letters.
_WORDS = {
    "cs": "a s na v ve do pod nad červený červená červené modrý modrá zelený zelená žlutý černý bílý malý "
    "velký",
    "da": "en et og med på i under af rød rødt røde blå grøn grønt gul sort hvid lille stor",
    "de": "ein eine einen einem einer der die das den dem des und mit auf in im am an unter von vom aus "
    "rot rote roter rotes roten blau blaue blauer grün grüne gelb gelbe schwarz schwarze weiß weiße "
    "kleine kleiner große",
    "en": "a an the of and with on in at under from to by for is red green blue yellow black white small big",
    "es": "un una unos unas el los las del y con en sobre bajo de rojo roja azul verde amarillo amarilla "
    "negro negra blanco blanca pequeño pequeña grande",
    "fi": "ja punainen sininen vihreä keltainen musta valkoinen pieni iso suuri",
    "fr": "un une des le la les du de et avec dans sur sous au aux rouge bleu bleue vert verte jaune noir "
    "noire blanc blanche petit petite grand grande",
    "hu": "egy és piros kék zöld sárga fekete fehér kicsi nagy",
    "id": "dan dengan di sebuah seekor merah biru hijau kuning hitam putih kecil besar",
    "it": "un una uno il lo la gli le di del della e con su sul sulla nel nella rosso rossa blu verde "
    "giallo gialla nero nera bianco bianca piccolo piccola grande",
    "nb": "en et ei og med på i under av rød rødt røde blå grønn grønt gul svart hvit liten stor",
    "nl": "een het de en met op onder van rode rood blauwe blauw groene groen gele geel zwarte zwart witte "
    "wit kleine grote",
    "pl": "i z na w pod do czerwony czerwona czerwone niebieski niebieska zielony zielona żółty czarny "
    "biały mały duży",
    "pt": "um uma o os as do da dos das e com em no na de vermelho vermelha azul verde amarelo amarela "
    "preto preta branco branca pequeno pequena grande",
    "ro": "un o și cu pe în de roșu roșie albastru verde galben negru alb mic mare",
    "sv": "en ett och med på i under av röd rött röda blå grön grönt gul svart vit liten stor",
    "tr": "bir ve ile kırmızı mavi yeşil sarı siyah beyaz küçük büyük",
    "vi": "một và với trên màu đỏ xanh vàng đen trắng con cái quả",
}
WORDS = {code: frozenset(text.split()) for code, text in _WORDS.items()}
# Letters that English does not have, not even in the words that it has borrowed, by the languages that do.
_LETTERS = {
    "cs": "áčďěíňřšťúůýž",
    "da": "æøå",
    "de": "äöüß",
    "es": "áíóú¿¡",
    "et": "äöüõšž",
    "fi": "äöå",
    "fr": "œ",
    "hu": "áíóöőúüű",
    "it": "ìòù",
    "lt": "ąčęėįšųūž",
    "nb": "æøå",
    "pl": "ąćęłńśźż",
    "pt": "áãíóõú",
    "ro": "ăîșțşţ",
    "sv": "äöå",
    "tr": "çğıöşü",
    "vi": "ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ",
}
LETTERS = {code: frozenset(letters) for code, letters in _LETTERS.items()}


def named(codes: Sequence[str]) -> str:
    """Languages for a message: "English, Korean and German"."""
    names = [LANGUAGES[code.partition("-")[0]][0] if known(code) else code for code in codes]
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


def known(code: str) -> bool:
    """True for a language whose script is known here."""
    return code.partition("-")[0] in LANGUAGES


def unread(prompt: str, codes: Sequence[str]) -> str | None:
    """The script or language of a prompt ("Cyrillic letters") that is in none of some languages; else None.

    Nothing is said where one of the languages is not known here, or none is named.
    """
    own = [code.partition("-")[0] for code in codes]
    if not own or not all(map(known, own)):
        return None
    letters = Counter(filter(None, map(_script, unicodedata.normalize("NFKC", prompt))))
    read = {script for code in own for script in LANGUAGES[code][1]}
    others = Counter({script: count for script, count in letters.items() if script not in read})
    if others and others.total() >= SHARE * letters.total():
        return f"{_titled(others.most_common(1)[0][0])} letters"
    if "LATIN" in read and letters.keys() & {"LATIN"} and not letters.keys() - {"LATIN"}:
        return "another language" if _marks(prompt, own) >= MARKS else None
    return None


def _marks(prompt: str, own: Sequence[str]) -> int:
    """The most marks of one language in Latin letters that the own ones do not have."""
    text = unicodedata.normalize("NFC", prompt).casefold()
    words, nothing = set(WORD.findall(text)), frozenset[str]()
    words -= nothing.union(*(WORDS.get(code, nothing) for code in own))
    letters = set(text) - nothing.union(*(LETTERS.get(code, nothing) for code in own))
    return max(
        len(words & WORDS.get(code, nothing)) + MARKS * bool(letters & LETTERS.get(code, nothing))
        for code in LANGUAGES
    )


def _script(letter: str) -> str | None:
    """The script of a letter; None of what is none, or of all scripts."""
    if unicodedata.category(letter) not in ("Lu", "Ll", "Lt", "Lo"):
        return None
    return unicodedata.name(letter, "").partition(" ")[0] or None


def _titled(script: str) -> str:
    return "Chinese" if script == "CJK" else "Japanese" if script in JAPANESE else script.capitalize()
