"""Things that nearly every text-to-image model has seen, by language: what a bundle draws of what it knew.

None of them is a name that bundles are measured by (`evaluate.names`).
"""

from __future__ import annotations

from collections.abc import Mapping

THINGS: Mapping[str, tuple[str, ...]] = {
    "en": (
        *("apple", "banana", "cherry", "lemon", "grapes", "strawberry", "carrot", "tomato", "bread"),
        *("cookie", "ice cream", "cup of coffee", "teapot", "wine glass", "fork and knife", "dog", "rabbit"),
        *("bear", "fox", "lion", "elephant", "monkey", "penguin", "owl", "duck", "chicken", "butterfly"),
        *("bee", "snail", "turtle", "frog", "octopus", "whale", "tree", "cactus", "sunflower", "rose"),
        *("mushroom", "leaf", "mountain", "cloud", "rainbow", "snowman", "star", "moon", "fire", "umbrella"),
        *("house", "castle", "tent", "church", "bridge", "car", "bicycle", "train", "rocket", "sailboat"),
        *("helicopter", "tractor", "balloon", "anchor", "key", "lock", "scissors", "pencil", "book"),
        *("envelope", "lamp", "candle", "light bulb", "battery", "computer", "television", "bell", "trumpet"),
        *("drum set", "football", "tennis racket", "trophy", "crown", "ring", "hat", "sock", "dress"),
        *("backpack", "suitcase", "gift", "teddy bear", "robot", "ghost", "pumpkin", "alien", "heart"),
        *("smiling face", "crying face", "angry face", "face with sunglasses", "baby", "doctor", "farmer"),
        *("thumbs up", "hand", "eye", "tooth", "flag of Japan", "flag of Canada", "arrow", "warning sign"),
    ),
    "ko": (
        *("사과", "바나나", "체리", "레몬", "포도", "딸기", "당근", "빵", "치즈", "커피", "강아지"),
        *("토끼", "곰", "여우", "사자", "코끼리", "펭귄", "부엉이", "나비", "거북이", "문어", "고래", "나무"),
        *("선인장", "해바라기", "장미", "버섯", "산", "구름", "무지개", "눈사람", "별", "달", "우산", "집"),
        *("자동차", "자전거", "기차", "로켓", "열쇠", "연필", "책", "촛불", "컴퓨터", "왕관", "모자", "선물"),
    ),
    "de": (
        *("Apfel", "Banane", "Kirsche", "Zitrone", "Trauben", "Erdbeere", "Karotte", "Brot", "Käse", "Eis"),
        *("Tasse Kaffee", "Hund", "Hase", "Bär", "Fuchs", "Löwe", "Elefant", "Pinguin", "Schmetterling"),
        *("Schildkröte", "Tintenfisch", "Wal", "Baum", "Kaktus", "Sonnenblume", "Rose", "Pilz", "Wolke"),
        *("Regenbogen", "Schneemann", "Stern", "Mond", "Regenschirm", "Haus", "Auto", "Fahrrad", "Zug"),
        *("Rakete", "Schlüssel", "Bleistift", "Buch", "Kerze", "Computer", "Krone", "Hut", "Geschenk"),
    ),
}  # fmt: skip
COLOURS: Mapping[str, tuple[str, ...]] = {
    "en": ("red", "blue", "green", "yellow", "purple", "orange", "black", "pink"),
}


def prompts(count: int, languages: tuple[str, ...]) -> list[str]:
    """Up to `count` prompts of things, all different, in those of the languages that there are names in.

    Every third English one says a colour. The first ones are of different things.
    """
    spoken = [language for language in THINGS if language in languages] or ["en"]
    found: dict[str, None] = {}
    longest = max(len(THINGS[language]) for language in spoken)
    for turn in range(len(COLOURS["en"])):
        for place in range(longest):
            for language in spoken:
                names = THINGS[language]
                if place >= len(names) or (turn and language != "en"):
                    continue
                name = names[place]
                colour = COLOURS["en"][(place // 3 + turn) % len(COLOURS["en"])]
                said = language == "en" and (turn or place % 3 == 0) and " " not in name
                found[f"{colour} {name}" if said else name] = None
    return list(found)[:count]
