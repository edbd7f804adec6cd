"""Scenes in words, in all languages that emoji have names in.

`{a}` and `{b}` are the things, in English with their articles, `{n}` the first one's bare name, `{s}` its
English plural, `{c}` a colour. Names are not inflected: where a language would have to, they stand alone
("links Katze, rechts Hund"). A language that is not here has what `PLAIN` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Relation(StrEnum):
    """The way things stand in a scene, or one thing is changed."""

    AND = "and"
    LEFT = "left of"
    ABOVE = "above"
    ON = "on"
    TWO = "two"
    THREE = "three"
    GROUND = "ground"
    COLOUR = "colour"
    SMALL = "small"


Templates = Mapping[Relation, tuple[str, ...]]

PLAIN: Templates = {
    Relation.AND: ("{n} + {b}",),
    Relation.TWO: ("2 × {n}",),
    Relation.THREE: ("3 × {n}",),
    Relation.SMALL: ("{n}",),
}


def _templates(
    joined: str,
    left: str,
    above: str,
    two: str,
    three: str,
    ground: str,
    colour: str,
    small: str,
    on: str = "",
) -> Templates:
    """Templates of one phrase or of several with "|" between; none where there is no phrase."""
    texts = (joined, left, above, on, two, three, ground, colour, small)
    return {relation: tuple(text.split("|")) for relation, text in zip(Relation, texts, strict=True) if text}


RELATIONS: Mapping[str, Templates] = {
    "en": _templates(
        "{a} and {b}|{b} and {a}|{a} beside {b}|{a} next to {b}",
        "{a} left of {b}|{a} to the left of {b}|{b} right of {a}|{b} to the right of {a}",
        "{a} above {b}|{a} over {b}|{b} below {a}",
        "two {s}|2 {s}|a pair of {s}",
        "three {s}|3 {s}",
        "{a} on a {c} ground|{a} on a {c} background|{n}, {c} background",
        "a {c} {n}|{c} {n}",
        "a small {n}|a little {n}",
        "{a} on {b}|{a} on top of {b}",
    ),
    "de": _templates(
        "{n} und {b}|{b} und {n}|{n} neben {b}",
        "{n} links, {b} rechts|links {n}, rechts {b}",
        "{n} oben, {b} unten|oben {n}, unten {b}",
        "zweimal {n}|2 × {n}",
        "dreimal {n}|3 × {n}",
        "{n}, Hintergrund {c}|{n} auf {c}",
        "{n} in {c}|{n}, {c}",
        "{n}, klein",
    ),
    "ko": _templates(
        "{n}, {b}|{n} 그리고 {b}|{b} 그리고 {n}",
        "왼쪽에 {n}, 오른쪽에 {b}|{b} 왼쪽에 있는 {n}",
        "위에 {n}, 아래에 {b}|{b} 위쪽에 있는 {n}",
        "{n} 두 개|{n} 2개",
        "{n} 세 개|{n} 3개",
        "{c} 배경의 {n}|{c} 바탕에 {n}",
        "{c} {n}",
        "작은 {n}",
        "{b} 위의 {n}|{b} 위에 놓인 {n}",
    ),
    "fr": _templates(
        "{n} et {b}|{b} et {n}|{n} à côté de {b}",
        "{n} à gauche, {b} à droite|à gauche {n}, à droite {b}",
        "{n} en haut, {b} en bas|{n} au-dessus de {b}",
        "deux fois {n}|2 × {n}",
        "trois fois {n}|3 × {n}",
        "{n} sur fond {c}",
        "{n} en {c}|{n} de couleur {c}",
        "{n} en petit",
        "{n} sur {b}",
    ),
    "es": _templates(
        "{n} y {b}|{b} y {n}|{n} junto a {b}",
        "{n} a la izquierda, {b} a la derecha|{n} a la izquierda de {b}",
        "{n} arriba, {b} abajo|{n} encima de {b}",
        "dos veces {n}|2 × {n}",
        "tres veces {n}|3 × {n}",
        "{n} sobre fondo {c}|{n} con fondo {c}",
        "{n} de color {c}|{n} en {c}",
        "{n} en pequeño",
        "{n} sobre {b}",
    ),
    "it": _templates(
        "{n} e {b}|{b} e {n}|{n} accanto a {b}",
        "{n} a sinistra, {b} a destra|a sinistra {n}, a destra {b}",
        "{n} in alto, {b} in basso|{n} sopra {b}",
        "due volte {n}|2 × {n}",
        "tre volte {n}|3 × {n}",
        "{n} su sfondo {c}",
        "{n} di colore {c}|{n} in {c}",
        "{n} in piccolo",
        "{n} su {b}",
    ),
    "pt": _templates(
        "{n} e {b}|{b} e {n}|{n} ao lado de {b}",
        "{n} à esquerda, {b} à direita|à esquerda {n}, à direita {b}",
        "{n} em cima, {b} embaixo|{n} acima de {b}",
        "duas vezes {n}|2 × {n}",
        "três vezes {n}|3 × {n}",
        "{n} com fundo {c}|{n} em fundo {c}",
        "{n} de cor {c}|{n} em {c}",
        "{n} pequeno",
        "{n} sobre {b}",
    ),
    "nl": _templates(
        "{n} en {b}|{b} en {n}|{n} naast {b}",
        "{n} links van {b}|links {n}, rechts {b}",
        "{n} boven {b}|boven {n}, onder {b}",
        "twee keer {n}|2 × {n}",
        "drie keer {n}|3 × {n}",
        "{n}, achtergrond {c}|{n} op {c}",
        "{n} in het {c}|{n}, {c}",
        "{n}, klein",
        "{n} op {b}",
    ),
    "sv": _templates(
        "{n} och {b}|{b} och {n}|{n} bredvid {b}",
        "{n} till vänster om {b}|till vänster {n}, till höger {b}",
        "{n} ovanför {b}|överst {n}, nederst {b}",
        "två gånger {n}|2 × {n}",
        "tre gånger {n}|3 × {n}",
        "{n}, bakgrund i {c}",
        "{n} i {c}",
        "{n}, liten",
        "{n} på {b}",
    ),
    "pl": _templates(
        "{n} i {b}|{b} i {n}",
        "po lewej {n}, po prawej {b}|{n} po lewej, {b} po prawej",
        "u góry {n}, na dole {b}",
        "dwa razy {n}|2 × {n}",
        "trzy razy {n}|3 × {n}",
        "{n}, tło {c}",
        "{n}, kolor {c}",
        "{n}, małe",
    ),
    "ru": _templates(
        "{n} и {b}|{b} и {n}",
        "слева {n}, справа {b}|{n} слева, {b} справа",
        "сверху {n}, снизу {b}",
        "два раза {n}|2 × {n}",
        "три раза {n}|3 × {n}",
        "{n}, фон {c}",
        "{n}, цвет {c}",
        "{n}, маленький размер",
    ),
    "ja": _templates(
        "{n}と{b}|{b}と{n}|{n}、{b}",
        "左に{n}、右に{b}|{b}の左にある{n}",
        "上に{n}、下に{b}|{b}の上方にある{n}",
        "二つの{n}|{n}が2つ",
        "三つの{n}|{n}が3つ",
        "{c}の背景の{n}|{c}の背景に{n}",
        "{c}の{n}|{c}色の{n}",
        "小さい{n}",
        "{b}の上の{n}|{b}に乗った{n}",
    ),
    "zh": _templates(
        "{n}和{b}|{b}和{n}|{n}与{b}",
        "左边{n},右边{b}|{b}左边的{n}",
        "上面{n},下面{b}",
        "两个{n}|2个{n}",
        "三个{n}|3个{n}",
        "{c}背景的{n}|{c}背景上的{n}",
        "{c}的{n}|{c}{n}",
        "小{n}",
        "{b}上的{n}",
    ),
    "zh-hant": _templates(
        "{n}和{b}|{b}和{n}|{n}與{b}",
        "左邊{n},右邊{b}|{b}左邊的{n}",
        "上面{n},下面{b}",
        "兩個{n}|2個{n}",
        "三個{n}|3個{n}",
        "{c}背景的{n}|{c}背景上的{n}",
        "{c}的{n}|{c}{n}",
        "小{n}",
        "{b}上的{n}",
    ),
    "da": _templates(
        "{n} og {b}|{b} og {n}|{n} ved siden af {b}",
        "{n} til venstre for {b}|til venstre {n}, til højre {b}",
        "{n} over {b}|øverst {n}, nederst {b}",
        "to gange {n}|2 × {n}",
        "tre gange {n}|3 × {n}",
        "{n}, baggrund i {c}",
        "{n} i {c}",
        "{n}, lille",
        "{n} på {b}",
    ),
    "nb": _templates(
        "{n} og {b}|{b} og {n}|{n} ved siden av {b}",
        "{n} til venstre for {b}|til venstre {n}, til høyre {b}",
        "{n} over {b}|øverst {n}, nederst {b}",
        "to ganger {n}|2 × {n}",
        "tre ganger {n}|3 × {n}",
        "{n}, bakgrunn i {c}",
        "{n} i {c}",
        "{n}, liten",
        "{n} på {b}",
    ),
    "fi": _templates(
        "{n} ja {b}|{b} ja {n}",
        "vasemmalla {n}, oikealla {b}|{n} vasemmalla, {b} oikealla",
        "ylhäällä {n}, alhaalla {b}",
        "kaksi kertaa {n}|2 × {n}",
        "kolme kertaa {n}|3 × {n}",
        "{n}, tausta {c}",
        "{n}, väri {c}",
        "{n}, pieni",
    ),
    "et": _templates(
        "{n} ja {b}|{b} ja {n}",
        "vasakul {n}, paremal {b}|{n} vasakul, {b} paremal",
        "üleval {n}, all {b}",
        "kaks korda {n}|2 × {n}",
        "kolm korda {n}|3 × {n}",
        "{n}, taust {c}",
        "{n}, värv {c}",
        "{n}, väike",
    ),
    "hu": _templates(
        "{n} és {b}|{b} és {n}",
        "balra {n}, jobbra {b}|{n} balra, {b} jobbra",
        "fent {n}, lent {b}",
        "kétszer {n}|2 × {n}",
        "háromszor {n}|3 × {n}",
        "{n}, {c} háttér|{n} {c} háttérrel",
        "{c} {n}|{n}, {c}",
        "kis {n}|kicsi {n}",
    ),
    "lt": _templates(
        "{n} ir {b}|{b} ir {n}",
        "kairėje {n}, dešinėje {b}|{n} kairėje, {b} dešinėje",
        "viršuje {n}, apačioje {b}",
        "du kartus {n}|2 × {n}",
        "tris kartus {n}|3 × {n}",
        "{n}, fonas {c}",
        "{n}, spalva {c}",
        "{n}, mažas",
    ),
    "ms": _templates(
        "{n} dan {b}|{b} dan {n}|{n} di sebelah {b}",
        "{n} di kiri {b}|di kiri {n}, di kanan {b}",
        "di atas {n}, di bawah {b}",
        "dua {n}|2 × {n}",
        "tiga {n}|3 × {n}",
        "{n} berlatar belakang {c}|{n}, latar {c}",
        "{n} {c}|{n} berwarna {c}",
        "{n} kecil",
        "{n} di atas {b}",
    ),
    "vi": _templates(
        "{n} và {b}|{b} và {n}|{n} cạnh {b}",
        "{n} bên trái {b}|bên trái {n}, bên phải {b}",
        "{n} phía trên {b}|phía trên {n}, phía dưới {b}",
        "hai {n}|2 × {n}",
        "ba {n}|3 × {n}",
        "{n} trên nền {c}|{n}, nền {c}",
        "{n} màu {c}",
        "{n} nhỏ",
        "{n} trên {b}",
    ),
    "th": _templates(
        "{n}กับ{b}|{n}และ{b}|{b}และ{n}",
        "{n}อยู่ทางซ้ายของ{b}|ซ้าย{n} ขวา{b}",
        "{n}อยู่เหนือ{b}|บน{n} ล่าง{b}",
        "{n} 2 อัน|2 × {n}",
        "{n} 3 อัน|3 × {n}",
        "{n}บนพื้นหลังสี{c}|{n} พื้นหลังสี{c}",
        "{n}สี{c}",
        "{n}ขนาดเล็ก",
        "{n}บน{b}",
    ),
    "uk": _templates(
        "{n} і {b}|{b} і {n}|{n} та {b}",
        "зліва {n}, справа {b}|{n} зліва, {b} справа",
        "зверху {n}, знизу {b}",
        "двічі {n}|2 × {n}",
        "тричі {n}|3 × {n}",
        "{n}, фон {c}|{n}, тло {c}",
        "{n}, колір {c}",
        "{n}, маленький розмір",
    ),
    "hi": _templates(
        "{n} और {b}|{b} और {n}",
        "बाएँ {n}, दाएँ {b}|बाईं ओर {n}, दाईं ओर {b}",
        "ऊपर {n}, नीचे {b}",
        "दो {n}|2 × {n}",
        "तीन {n}|3 × {n}",
        "{n}, पृष्ठभूमि {c}",
        "{n}, रंग {c}",
        "{n}, छोटा आकार",
    ),
    "bn": _templates(
        "{n} এবং {b}|{n} ও {b}|{b} ও {n}",
        "বামে {n}, ডানে {b}",
        "উপরে {n}, নিচে {b}",
        "দুটি {n}|2 × {n}",
        "তিনটি {n}|3 × {n}",
        "{n}, পটভূমি {c}",
        "{c} রঙের {n}|{n}, রঙ {c}",
        "ছোট {n}",
    ),
}

_NAMES = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
_WORDS = {  # a low line is a space
    "en": "red orange yellow green blue purple pink",
    "de": "Rot Orange Gelb Grün Blau Lila Rosa",
    "ko": "빨간색 주황색 노란색 초록색 파란색 보라색 분홍색",
    "fr": "rouge orange jaune vert bleu violet rose",
    "es": "rojo naranja amarillo verde azul morado rosa",
    "it": "rosso arancione giallo verde blu viola rosa",
    "pt": "vermelho laranja amarelo verde azul roxo rosa",
    "nl": "rood oranje geel groen blauw paars roze",
    "sv": "rött orange gult grönt blått lila rosa",
    "pl": "czerwony pomarańczowy żółty zielony niebieski fioletowy różowy",
    "ru": "красный оранжевый жёлтый зелёный синий фиолетовый розовый",
    "ja": "赤 オレンジ 黄色 緑 青 紫 ピンク",
    "zh": "红色 橙色 黄色 绿色 蓝色 紫色 粉色",
    "zh-hant": "紅色 橙色 黃色 綠色 藍色 紫色 粉色",
    "da": "rødt orange gult grønt blåt lilla lyserødt",
    "nb": "rødt oransje gult grønt blått lilla rosa",
    "fi": "punainen oranssi keltainen vihreä sininen violetti vaaleanpunainen",
    "et": "punane oranž kollane roheline sinine lilla roosa",
    "hu": "piros narancssárga sárga zöld kék lila rózsaszín",
    "lt": "raudona oranžinė geltona žalia mėlyna violetinė rožinė",
    "ms": "merah jingga kuning hijau biru ungu merah_jambu",
    "vi": "đỏ cam vàng xanh_lá xanh_dương tím hồng",
    "th": "แดง ส้ม เหลือง เขียว น้ำเงิน ม่วง ชมพู",
    "uk": "червоний помаранчевий жовтий зелений синій фіолетовий рожевий",
    "hi": "लाल नारंगी पीला हरा नीला बैंगनी गुलाबी",
    "bn": "লাল কমলা হলুদ সবুজ নীল বেগুনি গোলাপি",
}
COLOURS: Mapping[str, Mapping[str, str]] = {
    language: dict(zip(_NAMES, (word.replace("_", " ") for word in words.split()), strict=True))
    for language, words in _WORDS.items()
}
