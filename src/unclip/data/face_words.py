"""Faces in words, in all languages that emoji have names in.

A face is said by its look and its parts, "smiling face with long hair, glasses": names of parts stand as they
are in a dictionary, so that no language has to inflect them. English, which inflects nothing either, has the
colour within: "long brown hair".
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Term(StrEnum):
    """A look of a face, or a part of it."""

    FACE = "face"
    SMILING = "smiling face"
    SAD = "sad face"
    ANGRY = "angry face"
    SURPRISED = "surprised face"
    WINKING = "winking face"
    SLEEPING = "sleeping face"
    SHORT = "short hair"
    LONG = "long hair"
    CURLY = "curly hair"
    BOB = "bob"
    BUN = "bun"
    PIGTAILS = "pigtails"
    MOHAWK = "mohawk"
    SPIKY = "spiky hair"
    BALD = "bald head"
    CAP = "cap"
    WOOLLY = "woolly hat"
    CAT_EARS = "cat ears"
    GLASSES = "glasses"
    SUNGLASSES = "sunglasses"
    BEARD = "beard"
    MOUSTACHE = "moustache"
    GOATEE = "goatee"
    MASK = "face mask"
    RED_NOSE = "red nose"
    BROWN = "brown hair"
    BLACK = "black hair"
    BLOND = "blond hair"
    RED = "red hair"
    GREY = "grey hair"
    SHIRT = "shirt"


class FaceWords(NamedTuple):
    """A language's words, and the way a face, `{face}`, and its parts, `{parts}`, are put together."""

    whole: str
    between: str  # two parts
    words: Mapping[Term, str]


def _words(whole: str, between: str, words: str) -> FaceWords:
    return FaceWords(whole, between, dict(zip(Term, words.split("|"), strict=True)))


FACE_WORDS: Mapping[str, FaceWords] = {
    "en": _words(
        "{face} with {parts}",
        ", ",
        "face|smiling face|sad face|angry face|surprised face|winking face|sleeping face|short hair|"
        "long hair|curly hair|a bob|a bun|pigtails|a mohawk|spiky hair|a bald head|a cap|a woolly hat|"
        "cat ears|glasses|sunglasses|a beard|a moustache|a goatee|a face mask|a red nose|brown hair|"
        "black hair|blond hair|red hair|grey hair|a shirt",
    ),
    "de": _words(
        "{face}, {parts}",
        ", ",
        "Gesicht|lächelndes Gesicht|trauriges Gesicht|wütendes Gesicht|überraschtes Gesicht|"
        "zwinkerndes Gesicht|schlafendes Gesicht|kurze Haare|lange Haare|lockige Haare|Bob|Dutt|Zöpfe|"
        "Irokesenschnitt|stachelige Haare|Glatze|Mütze|Wollmütze|Katzenohren|Brille|Sonnenbrille|Bart|"
        "Schnurrbart|Ziegenbart|Maske|rote Nase|braune Haare|schwarze Haare|blonde Haare|rote Haare|"
        "graue Haare|Hemd",
    ),
    "ko": _words(
        "{parts}, {face}",
        ", ",
        "얼굴|웃는 얼굴|슬픈 얼굴|화난 얼굴|놀란 얼굴|윙크하는 얼굴|자는 얼굴|짧은 머리|긴 머리|곱슬머리|"
        "단발머리|올림머리|양갈래 머리|모히칸 머리|뾰족한 머리|대머리|모자|털모자|고양이 귀|안경|선글라스|"
        "턱수염|콧수염|염소수염|마스크|빨간 코|갈색 머리|검은 머리|금발|빨간 머리|회색 머리|셔츠",
    ),
    "fr": _words(
        "{face} avec {parts}",
        ", ",
        "visage|visage souriant|visage triste|visage en colère|visage surpris|visage avec clin d’œil|"
        "visage endormi|cheveux courts|cheveux longs|cheveux bouclés|carré|chignon|couettes|crête|"
        "cheveux en épis|crâne chauve|casquette|bonnet|oreilles de chat|lunettes|lunettes de soleil|barbe|"
        "moustache|bouc|masque|nez rouge|cheveux bruns|cheveux noirs|cheveux blonds|cheveux roux|"
        "cheveux gris|chemise",
    ),
    "es": _words(
        "{face} con {parts}",
        ", ",
        "cara|cara sonriente|cara triste|cara enfadada|cara sorprendida|cara guiñando el ojo|cara dormida|"
        "pelo corto|pelo largo|pelo rizado|melena corta|moño|coletas|cresta|pelo de punta|cabeza calva|gorra|"
        "gorro|orejas de gato|gafas|gafas de sol|barba|bigote|perilla|mascarilla|nariz roja|pelo castaño|"
        "pelo negro|pelo rubio|pelo rojo|pelo gris|camisa",
    ),
    "it": _words(
        "{face} con {parts}",
        ", ",
        "faccia|faccia sorridente|faccia triste|faccia arrabbiata|faccia sorpresa|faccia che fa l’occhiolino|"
        "faccia addormentata|capelli corti|capelli lunghi|capelli ricci|caschetto|chignon|codini|cresta|"
        "capelli a punta|testa calva|cappellino|berretto di lana|orecchie da gatto|occhiali|"
        "occhiali da sole|barba|baffi|pizzetto|mascherina|naso rosso|capelli castani|capelli neri|"
        "capelli biondi|capelli rossi|capelli grigi|maglietta",
    ),
    "pt": _words(
        "{face} com {parts}",
        ", ",
        "rosto|rosto sorridente|rosto triste|rosto zangado|rosto surpreso|rosto piscando|rosto dormindo|"
        "cabelo curto|cabelo comprido|cabelo cacheado|cabelo chanel|coque|maria-chiquinha|moicano|"
        "cabelo espetado|careca|boné|gorro|orelhas de gato|óculos|óculos escuros|barba|bigode|cavanhaque|"
        "máscara|nariz vermelho|cabelo castanho|cabelo preto|cabelo loiro|cabelo ruivo|"
        "cabelo grisalho|camisa",
    ),
    "nl": _words(
        "{face} met {parts}",
        ", ",
        "gezicht|lachend gezicht|verdrietig gezicht|boos gezicht|verrast gezicht|knipogend gezicht|"
        "slapend gezicht|kort haar|lang haar|krullend haar|bobkapsel|knot|staartjes|hanenkam|stekelhaar|"
        "kaal hoofd|pet|muts|kattenoren|bril|zonnebril|baard|snor|sik|mondkapje|rode neus|bruin haar|"
        "zwart haar|blond haar|rood haar|grijs haar|shirt",
    ),
    "sv": _words(
        "{face} med {parts}",
        ", ",
        "ansikte|leende ansikte|ledset ansikte|argt ansikte|förvånat ansikte|blinkande ansikte|"
        "sovande ansikte|kort hår|långt hår|lockigt hår|page|hårknut|tofsar|tuppkam|taggigt hår|kalt huvud|"
        "keps|mössa|kattöron|glasögon|solglasögon|skägg|mustasch|bockskägg|munskydd|röd näsa|brunt hår|"
        "svart hår|blont hår|rött hår|grått hår|tröja",
    ),
    "da": _words(
        "{face} med {parts}",
        ", ",
        "ansigt|smilende ansigt|trist ansigt|vredt ansigt|overrasket ansigt|blinkende ansigt|sovende ansigt|"
        "kort hår|langt hår|krøllet hår|page|hårknold|rottehaler|hanekam|strithår|skaldet hoved|kasket|hue|"
        "katteører|briller|solbriller|skæg|overskæg|fipskæg|mundbind|rød næse|brunt hår|sort hår|lyst hår|"
        "rødt hår|gråt hår|trøje",
    ),
    "nb": _words(
        "{face} med {parts}",
        ", ",
        "ansikt|smilende ansikt|trist ansikt|sint ansikt|overrasket ansikt|blunkende ansikt|sovende ansikt|"
        "kort hår|langt hår|krøllete hår|pasjehår|hårknute|musefletter|hanekam|piggete hår|skallet hode|"
        "caps|lue|katteører|briller|solbriller|skjegg|bart|fippskjegg|munnbind|rød nese|brunt hår|svart hår|"
        "blondt hår|rødt hår|grått hår|genser",
    ),
    "pl": _words(
        "{face}: {parts}",
        ", ",
        "twarz|uśmiechnięta twarz|smutna twarz|zła twarz|zaskoczona twarz|mrugająca twarz|śpiąca twarz|"
        "krótkie włosy|długie włosy|kręcone włosy|włosy na pazia|kok|kucyki|irokez|nastroszone włosy|łysina|"
        "czapka z daszkiem|czapka|kocie uszy|okulary|okulary przeciwsłoneczne|broda|wąsy|kozia bródka|"
        "maseczka|czerwony nos|brązowe włosy|czarne włosy|blond włosy|rude włosy|siwe włosy|koszulka",
    ),
    "ru": _words(
        "{face}: {parts}",
        ", ",
        "лицо|улыбающееся лицо|грустное лицо|сердитое лицо|удивлённое лицо|подмигивающее лицо|спящее лицо|"
        "короткие волосы|длинные волосы|кудрявые волосы|каре|пучок|хвостики|ирокез|торчащие волосы|лысина|"
        "кепка|шапка|кошачьи уши|очки|солнечные очки|борода|усы|козлиная бородка|маска|красный нос|"
        "каштановые волосы|чёрные волосы|светлые волосы|рыжие волосы|седые волосы|рубашка",
    ),
    "uk": _words(
        "{face}: {parts}",
        ", ",
        "обличчя|усміхнене обличчя|сумне обличчя|сердите обличчя|здивоване обличчя|обличчя, що підморгує|"
        "спляче обличчя|коротке волосся|довге волосся|кучеряве волосся|каре|пучок|хвостики|ірокез|"
        "волосся сторчма|лисина|кепка|шапка|котячі вушка|окуляри|сонцезахисні окуляри|борода|вуса|"
        "цапина борідка|маска|червоний ніс|каштанове волосся|чорне волосся|світле волосся|руде волосся|"
        "сиве волосся|сорочка",
    ),
    "ja": _words(
        "{parts}の{face}",
        "、",
        "顔|笑顔|悲しい顔|怒った顔|驚いた顔|ウインクした顔|寝ている顔|短い髪|長い髪|巻き毛|ボブ|お団子ヘア|"
        "ツインテール|モヒカン|とがった髪|はげ頭|キャップ|ニット帽|猫耳|メガネ|サングラス|あごひげ|口ひげ|"
        "やぎひげ|マスク|赤い鼻|茶色い髪|黒い髪|金髪|赤毛|白髪|シャツ",
    ),
    "zh": _words(
        "{parts}的{face}",
        "、",
        "脸|笑脸|难过的脸|生气的脸|惊讶的脸|眨眼的脸|睡着的脸|短发|长发|卷发|波波头|丸子头|双马尾|莫西干头|"
        "刺猬头|光头|鸭舌帽|毛线帽|猫耳朵|眼镜|墨镜|胡子|八字胡|山羊胡|口罩|红鼻子|棕色头发|黑色头发|金发|"
        "红头发|灰白头发|衬衫",
    ),
    "zh-hant": _words(
        "{parts}的{face}",
        "、",
        "臉|笑臉|難過的臉|生氣的臉|驚訝的臉|眨眼的臉|睡著的臉|短髮|長髮|捲髮|鮑伯頭|丸子頭|雙馬尾|莫霍克頭|"
        "刺蝟頭|光頭|鴨舌帽|毛線帽|貓耳朵|眼鏡|墨鏡|鬍子|八字鬍|山羊鬍|口罩|紅鼻子|棕色頭髮|黑色頭髮|金髮|"
        "紅頭髮|灰白頭髮|襯衫",
    ),
    "fi": _words(
        "{face}: {parts}",
        ", ",
        "kasvot|hymyilevät kasvot|surulliset kasvot|vihaiset kasvot|yllättyneet kasvot|"
        "silmää iskevät kasvot|nukkuvat kasvot|lyhyet hiukset|pitkät hiukset|kiharat hiukset|polkkatukka|"
        "nuttura|saparot|irokeesi|piikkitukka|kalju|lippis|pipo|kissankorvat|silmälasit|aurinkolasit|parta|"
        "viikset|pukinparta|kasvomaski|punainen nenä|ruskeat hiukset|mustat hiukset|vaaleat hiukset|"
        "punaiset hiukset|harmaat hiukset|paita",
    ),
    "et": _words(
        "{face}: {parts}",
        ", ",
        "nägu|naeratav nägu|kurb nägu|vihane nägu|üllatunud nägu|silma pilgutav nägu|magav nägu|"
        "lühikesed juuksed|pikad juuksed|lokkis juuksed|poisipea|krunn|patsid|irokees|turris juuksed|"
        "kiilaspea|nokamüts|kootud müts|kassikõrvad|prillid|päikeseprillid|habe|vuntsid|kitsehabe|mask|"
        "punane nina|pruunid juuksed|mustad juuksed|blondid juuksed|punased juuksed|hallid juuksed|särk",
    ),
    "hu": _words(
        "{face}: {parts}",
        ", ",
        "arc|mosolygó arc|szomorú arc|mérges arc|meglepett arc|kacsintó arc|alvó arc|rövid haj|hosszú haj|"
        "göndör haj|bubifrizura|konty|copfok|taréj|tüskés haj|kopasz fej|sapka|kötött sapka|macskafülek|"
        "szemüveg|napszemüveg|szakáll|bajusz|kecskeszakáll|maszk|piros orr|barna haj|fekete haj|szőke haj|"
        "vörös haj|ősz haj|póló",
    ),
    "lt": _words(
        "{face}: {parts}",
        ", ",
        "veidas|besišypsantis veidas|liūdnas veidas|piktas veidas|nustebęs veidas|mirksintis veidas|"
        "miegantis veidas|trumpi plaukai|ilgi plaukai|garbanoti plaukai|karė|kuodas|uodegėlės|skiauterė|"
        "pasišiaušę plaukai|plikė|kepurė su snapeliu|megzta kepurė|katės ausys|akiniai|akiniai nuo saulės|"
        "barzda|ūsai|ožio barzdelė|kaukė|raudona nosis|rudi plaukai|juodi plaukai|šviesūs plaukai|"
        "raudoni plaukai|žili plaukai|marškiniai",
    ),
    "ms": _words(
        "{face} dengan {parts}",
        ", ",
        "muka|muka tersenyum|muka sedih|muka marah|muka terkejut|muka mengenyit mata|muka tidur|"
        "rambut pendek|rambut panjang|rambut kerinting|rambut bob|sanggul|ekor kuda dua|rambut mohawk|"
        "rambut tajam|kepala botak|topi|topi bulu|telinga kucing|cermin mata|cermin mata hitam|janggut|misai|"
        "janggut kambing|topeng muka|hidung merah|rambut coklat|rambut hitam|rambut perang|rambut merah|"
        "rambut kelabu|baju",
    ),
    "vi": _words(
        "{face} với {parts}",
        ", ",
        "khuôn mặt|mặt cười|mặt buồn|mặt giận dữ|mặt ngạc nhiên|mặt nháy mắt|mặt đang ngủ|tóc ngắn|tóc dài|"
        "tóc xoăn|tóc bob|búi tóc|tóc hai bím|tóc mohawk|tóc dựng|đầu hói|mũ lưỡi trai|mũ len|tai mèo|kính|"
        "kính râm|râu|ria mép|râu dê|khẩu trang|mũi đỏ|tóc nâu|tóc đen|tóc vàng|tóc đỏ|tóc bạc|áo",
    ),
    "th": _words(
        "{face} {parts}",
        " ",
        "ใบหน้า|หน้ายิ้ม|หน้าเศร้า|หน้าโกรธ|หน้าตกใจ|หน้าขยิบตา|หน้านอนหลับ|ผมสั้น|ผมยาว|ผมหยิก|ผมบ๊อบ|"
        "ผมมวย|ผมแกละ|ผมโมฮอว์ก|ผมตั้ง|หัวล้าน|หมวกแก๊ป|หมวกไหมพรม|หูแมว|แว่นตา|แว่นกันแดด|เครา|หนวด|"
        "เคราแพะ|หน้ากากอนามัย|จมูกแดง|ผมสีน้ำตาล|ผมสีดำ|ผมสีทอง|ผมสีแดง|ผมสีเทา|เสื้อ",
    ),
    "hi": _words(
        "{face}: {parts}",
        ", ",
        "चेहरा|मुस्काता चेहरा|उदास चेहरा|गुस्सैल चेहरा|हैरान चेहरा|आँख मारता चेहरा|सोया हुआ चेहरा|छोटे बाल|"
        "लंबे बाल|घुँघराले बाल|बॉब कट|जूड़ा|दो चोटी|मोहॉक|खड़े बाल|गंजा सिर|टोपी|ऊनी टोपी|बिल्ली के कान|चश्मा|"
        "धूप का चश्मा|दाढ़ी|मूँछ|बकरा दाढ़ी|मास्क|लाल नाक|भूरे बाल|काले बाल|सुनहरे बाल|लाल बाल|सफ़ेद बाल|कमीज़",
    ),
    "bn": _words(
        "{face}: {parts}",
        ", ",
        "মুখ|হাসিমুখ|দুঃখী মুখ|রাগী মুখ|অবাক মুখ|চোখ টেপা মুখ|ঘুমন্ত মুখ|ছোট চুল|লম্বা চুল|কোঁকড়া চুল|"
        "বব চুল|খোঁপা|দুই বেণী|মোহক|খাড়া চুল|টাক মাথা|টুপি|উলের টুপি|বিড়ালের কান|চশমা|রোদ চশমা|দাড়ি|গোঁফ|"
        "ছাগল দাড়ি|মাস্ক|লাল নাক|বাদামি চুল|কালো চুল|সোনালি চুল|লাল চুল|ধূসর চুল|শার্ট",
    ),
}

WEARING: Mapping[str, tuple[str, ...]] = {
    "en": ("{a} with {b}", "{a} wearing {b}", "{n} in {b}"),
    "de": ("{n} trägt {b}", "{n}, {b}"),
    "fr": ("{n} avec {b}",),
    "es": ("{n} con {b}",),
    "it": ("{n} con {b}",),
    "pt": ("{n} com {b}",),
    "nl": ("{n} met {b}",),
    "sv": ("{n} med {b}",),
    "da": ("{n} med {b}",),
    "nb": ("{n} med {b}",),
    "ko": ("{b}, {n}", "{n}, {b} 착용"),
    "ja": ("{b}をつけた{n}",),
    "zh": ("戴{b}的{n}",),
    "zh-hant": ("戴{b}的{n}",),
    "ms": ("{n} dengan {b}",),
    "vi": ("{n} với {b}",),
    "th": ("{n}สวม{b}",),
}
"""A face, `{n}`, in English `{a}` with its article, that wears `{b}`, by language; others say `{n}, {b}`."""
WEARING_PLAIN = ("{n}, {b}",)
