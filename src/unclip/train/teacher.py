"""A teacher of language: words of many languages in the space of a text encoder that knows them.

A corpus names some thousand things. What else there is, and what it is like, in any language, a text encoder
has read that was trained on much text. Its embeddings of words are stored once, beside the corpus; while CLIP
trains, words are drawn from them and a second loss draws the text encoder towards the teacher's space. So
words that no caption has lie where they belong, among the words that captions do have, whose pictures draw
the image encoder along. Nothing of the teacher is left in the weights' file but what CLIP has learned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from unclip.data.captions import LANGUAGES, check_languages, language_shares
from unclip.data.corpus import Corpus
from unclip.data.records import FACES, SCENES
from unclip.errors import DataError, InputError
from unclip.models.clip_loss import gather
from unclip.runtime import atomic_path
from unclip.tokenizer import Tokenizer, Tokens
from unclip.train.places import Places

TEACHER_FILE = "teacher.parquet"  # in the folder of a corpus
FEW = 200  # words of a language below which their mean says little of the language
NOT_ITSELF = -1e4  # the logit of a word's likeness to itself: a share of 0
RIDGE = 10.0  # of the regression from words to pictures
SHARPNESS = 10.0  # factor of the cosines of `Likeness.RELATIONS`, the inverse of a temperature


class Likeness(StrEnum):
    """The likeness to the teacher's space that is asked for.

    COSINE: each word stands where the teacher has it, 1 - cosine: feature distillation (2307.12732), across
    languages as in 2004.09813. In place of a learned projection, which would be thrown away, stand the
    teacher's own principal components, as many as CLIP's embedding is wide; so the shared space of pictures
    and texts becomes the teacher's.

    RELATIONS: words are as near to each other as the teacher has them, whatever the space: the cross entropy
    between the shares of their likeness to all words of the batch (SEED, 2101.04731;
    affinity mimicking, 2309.12314).

    PICTURES: each word stands where pictures of what is like it stand, 1 - cosine: beside a locked image
    encoder, whose space stays as it is. The words that pictures of the corpus have tell by a linear map where
    that is (`among_pictures`).
    """

    COSINE = "cosine"
    RELATIONS = "relations"
    PICTURES = "pictures"


@dataclass(frozen=True)
class TeacherConfig:
    """The second loss of CLIP's training.

    Attributes:
        file: of the embedded words, in the folder of the corpus (`tools/teacher_words.py` writes it).
        weight: of the loss beside the contrastive one's 1.
        words: that are drawn for each picture of a batch.
        likeness: what is asked of the text encoder.
        languages: share of the words by language code ("other" = all the others together).
        temperature: of those shares, as that of `PicturesConfig`.
    """

    file: str = TEACHER_FILE
    weight: float = 1.0
    words: int = 1
    likeness: Likeness = Likeness.COSINE
    languages: dict[str, float] = field(default_factory=lambda: dict(LANGUAGES))
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise InputError(f"weight {self.weight}: it must be above 0; for none say teacher = null")
        if self.words < 1:
            raise InputError(f"words {self.words}: draw 1 or more for each picture")
        if not self.temperature > 0:
            raise InputError(f"temperature: got {self.temperature}, allowed is a number above 0")
        check_languages(self.languages)


class Said(NamedTuple):
    """A word, or some, and the language they are said in."""

    language: str
    text: str


@dataclass(frozen=True)
class Words:
    """Words and their embeddings by a teacher.

    Attributes:
        said: the words, each language and text once.
        vectors: float16 (N, D), as the teacher gives them.
        meanings: what a word is a translation of, the same for all translations; "" where that is not known.
    """

    said: list[Said]
    vectors: np.ndarray
    meanings: list[str]

    @classmethod
    def none(cls) -> Words:
        return cls([], np.empty((0, 0), np.float16), [])

    @classmethod
    def load(cls, path: Path) -> Words:
        """The words of a Parquet file: columns language, text, vector (lists of one length), meaning.

        Raises DataError: there is none, it cannot be read, or it is of another kind.
        """
        import pyarrow as pa  # CLIP is trained without a teacher where there is none
        import pyarrow.parquet as pq

        check_there(path)
        try:
            table = pq.read_table(path, columns=["language", "text", "vector", "meaning"])
            flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            vectors = flat.reshape(len(table), -1).astype(np.float16, copy=False)
        except (OSError, ValueError, KeyError, AttributeError, pa.ArrowException) as error:
            raise DataError(f"{path} holds no words of a teacher ({error}): make it anew") from error
        columns = (table[name].to_pylist() for name in ("language", "text"))
        return cls(
            [Said(*pair) for pair in zip(*columns, strict=True)], vectors, table["meaning"].to_pylist()
        )

    def save(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        width = self.vectors.shape[1]
        flat = pa.array(np.ascontiguousarray(self.vectors, np.float16).reshape(-1))
        columns = {
            "language": pa.array([one.language for one in self.said]).dictionary_encode(),
            "text": pa.array([one.text for one in self.said]),
            "vector": pa.FixedSizeListArray.from_arrays(flat, width),
            "meaning": pa.array(self.meanings).dictionary_encode(),
        }
        with atomic_path(path) as temporary:
            pq.write_table(pa.table(columns), temporary, compression="zstd")

    def with_more(self, said: Sequence[Said], vectors: np.ndarray) -> Words:
        """These words and more of no known meaning, those that are there already left out."""
        known = set(self.said)
        rows = [row for row, one in enumerate(said) if one not in known]
        if not rows:
            return self
        more = vectors[rows].astype(np.float16)
        whole = np.concatenate([self.vectors, more]) if len(self.said) else more
        return Words([*self.said, *(said[row] for row in rows)], whole, [*self.meanings, *[""] * len(rows)])


def check_there(path: Path) -> None:
    """Raises DataError where the words of a teacher are not there."""
    if not path.is_file():
        raise DataError(
            f"{path} is not there: `python tools/teacher_words.py` of the repository makes it, and "
            "--set clip.task.teacher=null trains without a teacher"
        )


def centred(words: Words) -> np.ndarray:
    """Directions of words from the middle of their language, float32 (N, D) of length 1.

    Embeddings of one language have a part in common, which tells the language and not the thing; without it
    words of two languages lie nearer to their translations (2004.05160). Languages of fewer than
    `FEW` words share one middle.
    """
    codes, language = np.unique([one.language for one in words.said], return_inverse=True)
    counts = np.bincount(language, minlength=len(codes))
    group = np.where(counts[language] < FEW, len(codes), language)  # (N,)
    vectors = words.vectors.astype(np.float32)
    for one in np.unique(group):
        vectors[group == one] -= vectors[group == one].mean(axis=0, dtype=np.float64).astype(np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def directions(words: Words) -> np.ndarray:
    """Directions of words, float32 (N, D): from the middle of their language, the same for translations."""
    return agreed(centred(words), words.meanings)


def agreed(vectors: np.ndarray, meanings: Sequence[str]) -> np.ndarray:
    """Directions of words (N, D) with the mean over its translations in place of each translation's own.

    The teacher is surer of a thing in many languages than in one: its words of one language find the mean of
    their translations more often than those of English.
    """
    found = vectors.copy()
    _, group, counts = np.unique(np.array(meanings, dtype=str), return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), vectors.shape[1]), np.float64)
    np.add.at(sums, group, vectors)
    lengths = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
    shared = np.array([meaning != "" for meaning in meanings], dtype=bool)
    found[shared] = (sums / lengths)[group[shared]]
    return found


def projected(vectors: np.ndarray, width: int) -> np.ndarray:
    """Principal components of vectors (N, D), float32 (N, width) of length 1; beyond D they are 0.

    A component's largest weight is positive, so that the same words give the same directions.
    """
    whole = vectors.astype(np.float64)
    _, axes = np.linalg.eigh(whole.T @ whole)  # of rising variance
    axes = axes[:, ::-1][:, :width]  # (D, at most width)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)  # (1, W)
    found = (whole @ (axes * np.sign(largest))).astype(np.float32)
    found = np.pad(found, ((0, 0), (0, width - found.shape[1])))
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)


def among_pictures(words: Words, corpus: Corpus, embeddings: np.ndarray) -> np.ndarray:
    """Directions in which pictures of what words mean lie from the middle of all pictures, float32 (N, E).

    Ridge regression, from the words that are names of pictures: from the teacher's directions to the mean of
    the embeddings (M, E) of the corpus's pictures with that name. Each meaning counts once, whatever the
    number of its translations. Raises DataError where no picture has one of the words as its name.
    """
    rows: dict[Said, list[int]] = {said: [] for said in words.said}
    sources, tones = corpus.column("source"), corpus.column("tone")
    for index, (source, tone) in enumerate(zip(sources, tones, strict=True)):
        if tone == 0 and source not in (SCENES, FACES):
            for language in corpus.captions(index):
                for name in corpus.names(index, language):
                    if (found := rows.get(Said(language, name))) is not None:
                        found.append(index)
    known = [place for place, said in enumerate(words.said) if rows[said]]
    if not known:
        raise DataError("no picture of the corpus has a word of the teacher as its name: make its words anew")
    middle = embeddings.mean(axis=0, dtype=np.float64)
    named = np.stack([embeddings[rows[words.said[place]]].mean(axis=0) for place in known]) - middle
    named /= np.maximum(np.linalg.norm(named, axis=1, keepdims=True), 1e-6)
    meanings = [words.meanings[place] or words.said[place].text for place in known]
    times = Counter(meanings)
    weights = np.array([1 / times[meaning] for meaning in meanings])[:, None]
    vectors = directions(words).astype(np.float64)  # (N, D)
    given = vectors[known]
    gram = given.T @ (weights * given) + RIDGE * np.eye(given.shape[1])
    told = (vectors @ np.linalg.solve(gram, given.T @ (weights * named))).astype(np.float32)
    return told / np.maximum(np.linalg.norm(told, axis=1, keepdims=True), 1e-6)


class Lesson(NamedTuple):
    """The words of a step and where the teacher has them."""

    tokens: Tokens
    targets: Tensor  # (B, E) of length 1


class Teacher:
    """Draws words for each step, and says how far the text encoder is from where the teacher has them."""

    def __init__(
        self,
        words: Words,
        targets: np.ndarray,
        config: TeacherConfig,
        tokenizer: Tokenizer,
        context: int,
        middle: Tensor | None = None,
    ) -> None:
        """Make ready.

        Args:
            words: that are drawn.
            targets: float32 (N, E) of length 1, where the text encoder shall have them.
            config: the settings.
            tokenizer: of the text encoder.
            context: the most tokens of a text.
            middle: (E,) the middle of all texts, that targets are directions from; None is 0.
        """
        self.words, self.config, self.tokenizer, self.context = words, config, tokenizer, context
        self.targets, self.middle = torch.from_numpy(targets), middle
        spoken = [one.language for one in words.said]
        shares = language_shares(spoken, config.languages, config.temperature)
        counts = {code: spoken.count(code) for code in shares}
        self.weights = torch.tensor(
            [shares.get(code, 0.0) / counts.get(code, 1) for code in spoken], dtype=torch.float64
        )

    def lesson(self, places: Places) -> Lesson:
        """Words for the places of a batch, `config.words` each."""
        drawn = [places.multinomial(self.weights) for _ in range(self.config.words)]
        index = torch.stack(drawn, dim=1).flatten()  # (B * words,)
        texts = [self.words.said[i].text for i in index.tolist()]
        return Lesson(self.tokenizer.batch(texts, self.context), self.targets[index])

    def loss(self, texts: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of the embeddings (B, E) of a lesson's words, in float32."""
        if self.middle is not None:
            texts = F.normalize(texts.float(), dim=1) - self.middle.to(texts.device)
        return LOSSES[self.config.likeness](texts, targets)


def cosine_loss(texts: Tensor, targets: Tensor) -> Tensor:
    """1 - cosine, mean over the rows of (B, E) and (B, E)."""
    return 1 - F.cosine_similarity(texts.float(), targets.float(), dim=1).mean()


def relations_loss(texts: Tensor, targets: Tensor) -> Tensor:
    """The relative entropy of the likeness of each word to all others of the batch, from the teacher's.

    Takes (B, E) and (B, E). Of several processes each has rows of its own and the words of all. 0 where words
    are as alike as the teacher has them.
    """
    group = dist.group.WORLD if dist.is_initialized() else None
    start = 0 if group is None else dist.get_rank(group) * len(texts)
    with torch.autocast(texts.device.type, enabled=False):
        own, teachers = F.normalize(texts.float(), dim=1), F.normalize(targets.float(), dim=1)
        row = torch.arange(len(own), device=own.device)

        def log_shares(rows: Tensor) -> Tensor:
            cosines = SHARPNESS * rows @ gather(rows, group).T  # (B, M)
            cosines[row, row + start] = NOT_ITSELF
            return cosines.log_softmax(dim=1)

        return F.kl_div(log_shares(own), log_shares(teachers), log_target=True, reduction="batchmean")


LOSSES: dict[Likeness, Callable[[Tensor, Tensor], Tensor]] = {
    Likeness.COSINE: cosine_loss,
    Likeness.RELATIONS: relations_loss,
    Likeness.PICTURES: cosine_loss,
}
