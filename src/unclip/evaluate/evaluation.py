"""The whole evaluation, part by part: what it needs is loaded, each part is timed, what cannot be is said."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np

from unclip.bundle import Bundle
from unclip.data.corpus import Corpus
from unclip.data.records import Split
from unclip.errors import BundleError, InputError, UnclipWarning
from unclip.evaluate import ablation, clip, compositions, names, pictures, prior, reranking, upsamplers
from unclip.evaluate.encoder import Encoder, Step
from unclip.evaluate.figures import Findings
from unclip.evaluate.sample import HELD_OUT, Sample, languages_of, take
from unclip.evaluate.stages import Stages
from unclip.manifest import FAMILIES
from unclip.model import Model, load
from unclip.runtime import pick_device, pick_precision
from unclip.stages.networks import INT8
from unclip.stages.prior import COMPONENTS


class Section(StrEnum):
    """The parts of an evaluation, in their order."""

    CLIP = "clip"
    PRIOR = "prior"
    PICTURES = "pictures"
    COMPOSITIONS = "compositions"
    NAMES = "names"
    UPSAMPLERS = "upsamplers"
    ABLATION = "ablation"
    RERANK = "rerank"


UNCLIP = "unclip"  # the family whose stages are judged one by one
LEAST = 10  # pictures of a held-out split that is to be judged by
USUAL = (
    Section.CLIP,
    Section.PRIOR,
    Section.PICTURES,
    Section.COMPOSITIONS,
    Section.NAMES,
    Section.UPSAMPLERS,
)  # what takes longest is asked for by name


DRAWING = (Section.PICTURES, Section.COMPOSITIONS, Section.NAMES, Section.RERANK)  # of texts


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of an evaluation.

    Attributes:
        bundle: name or folder of what is evaluated.
        data: folder of a corpus.
        judge: the CLIP that scores pictures: a bundle, the folder of a run of `unclip train judge`, or a
            weight file of one; None is the bundle's own, whose liking the pictures were made to.
        only: the parts to do.
        captions: pictures of each split that are looked at, at most.
        languages: of captions; None is English, Korean and German as far as the corpus has them.
        style: whether pictures are drawn of prompts that name the style of the picture that they are the
            caption of, too, beside plain ones; and whether the prior is asked so.
        text_decoder: weight file of a decoder that was trained on text embeddings, for the ablation.
        seed: of the choice of captions, the noise, and the resampling.
        device, precision: as in `unclip.load`; where it is "int8", CLIP and judge take the device's own.
    """

    bundle: str | None
    data: Path
    judge: str | None = None
    only: tuple[Section, ...] = USUAL
    captions: int = 1000
    languages: tuple[str, ...] | None = None
    style: bool = True
    text_decoder: Path | None = None
    seed: int = 0
    device: str | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        if self.captions < 2:
            raise InputError(f"captions is {self.captions}: choose 2 or more")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}: choose from 0 to {2**63 - 1}")
        if self.text_decoder is not None and Section.ABLATION not in self.only:
            raise InputError("a text decoder is for the ablation: name that part as well (--only ablation)")


class Evaluation:
    """Measures; `run` tells of its progress, then `findings` and `seconds` are whole.

    Raises:
        BundleError, DataError, InputError: what is asked for is not there or does not fit together.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bundle = Bundle.load(settings.bundle)
        self.device = pick_device(settings.device)
        precision = None if settings.precision == INT8 else settings.precision
        self.precision = pick_precision(self.device, precision)
        self.train = Corpus(settings.data)
        self.languages = settings.languages or languages_of(self.train)
        self.findings = Findings()
        self.named: list[tuple[names.Name, np.ndarray]] = []  # pictures for people to name
        self.seconds: dict[str, float] = {}
        own = self._own_clip() if settings.judge is None or self._sees else None
        self.encoder = own
        self.judge = self._judge(own)

    def run(self) -> Iterator[Step]:
        """Do the parts that were asked for. One that this bundle cannot do is skipped, with the reason."""
        parts = {
            Section.CLIP: self._clip,
            Section.PRIOR: self._prior,
            Section.PICTURES: self._pictures,
            Section.COMPOSITIONS: self._compositions,
            Section.NAMES: self._names,
            Section.UPSAMPLERS: self._upsamplers,
            Section.ABLATION: self._ablation,
            Section.RERANK: self._rerank,
        }
        for section in (section for section in Section if section in self.settings.only):
            started = time.perf_counter()
            if reason := self._why_not(section):
                self.findings.skipped[section.value] = reason
            else:
                yield from parts[section]()
            self.seconds[section.value] = time.perf_counter() - started

    # --- what is there ---

    @property
    def _sees(self) -> bool:
        """True where the bundle has a CLIP that sees pictures."""
        return "clip" in self.bundle.components and self.bundle.component("clip").kind == "clip"

    @property
    def _staged(self) -> bool:
        """True where the bundle is a whole unCLIP, with a prior of either kind."""
        priors = set(COMPONENTS.values()) & set(self.bundle.components)
        return self.bundle.family == UNCLIP and bool(priors)

    def _own_clip(self) -> Encoder:
        if not self._sees:
            raise BundleError(
                f"bundle {self.bundle.name} has no CLIP that could judge its pictures: name another (--judge)"
            )
        return Encoder.of(self.bundle, self.device, self.precision)

    def _judge(self, own: Encoder | None) -> Encoder:
        if self.settings.judge is not None:
            return Encoder.load(self.settings.judge, self.device, self.precision)
        assert own is not None  # `_own_clip` says so where there is none
        if set(self.settings.only) - {Section.CLIP, Section.PRIOR}:
            warnings.warn(
                "no judge named: the bundle's own CLIP scores its pictures, which flatters them; train one "
                "with `unclip train judge` and name it with --judge",
                UnclipWarning,
                stacklevel=3,
            )
        return own

    def _why_not(self, section: Section) -> str:
        """Why a part cannot be done; empty where it can."""
        family = self.bundle.family
        if section is Section.CLIP and not self._sees:
            return f"a bundle of the family {family} has no CLIP that sees pictures"
        if section in (Section.PRIOR, Section.ABLATION) and not (self._staged and self._sees):
            return f"this bundle of the family {family} has no prior whose embeddings its CLIP could check"
        if section is Section.RERANK and not self._sees:
            return f"a bundle of the family {family} has no CLIP that could choose among pictures"
        if section in DRAWING and (not FAMILIES[family].draws or (family == UNCLIP and not self._staged)):
            return f"this bundle of the family {family} draws no pictures from text"
        if section in DRAWING and family == "adm":
            return "a bundle of the family adm draws classes: benchmarks/guidance.py measures it"
        if section is Section.UPSAMPLERS and not (self._staged and self.staged.chain):
            return f"this bundle of the family {family} has no upsamplers that can be run alone"
        return ""

    @cached_property
    def staged(self) -> Stages:
        """The bundle, stage by stage."""
        return Stages(self.model)

    @cached_property
    def model(self) -> Model:
        """The bundle as it draws for everybody."""
        return load(self.bundle.folder, device=str(self.device), precision=self.settings.precision)

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """A sample of each split that has pictures."""
        corpora = [self.train, *(Corpus(self.settings.data, split) for split in HELD_OUT)]
        s = self.settings
        return {
            corpus.split: take(corpus, s.captions, self.languages, s.style, s.seed)
            for corpus in corpora
            if len(corpus)
        }

    def _held_out(self, *splits: Split) -> list[Sample]:
        """The samples of these splits; a corpus that held out nothing is judged by what was trained on."""
        found = [self.samples[split] for split in splits if len(self.samples.get(split, ())) >= LEAST]
        if found:
            return found
        self._note(
            f"The corpus has fewer than {LEAST} pictures of {' and of '.join(splits)}: prior and pictures "
            "are judged by what was trained on."
        )
        return [self.samples[Split.TRAIN]]

    def _note(self, text: str) -> None:
        if text not in self.findings.verdicts:
            self.findings.verdicts.append(text)

    # --- the parts ---

    def _clip(self) -> Iterator[Step]:
        assert self.encoder is not None  # see `_why_not`
        samples = list(self.samples.values())
        yield from clip.retrieval(self.encoder, samples, self.findings, self.languages)
        yield from clip.classification(self.encoder, samples[-1], self.findings, self.languages)

    def _prior(self) -> Iterator[Step]:
        assert self.encoder is not None
        samples = [self.samples[Split.TRAIN], *self._held_out(Split.UNSEEN_PAIRS, Split.UNSEEN_CONCEPTS)]
        yield from prior.evaluate(
            self.staged, self.encoder, samples, self.languages, self.findings, self.settings.seed
        )

    def _pictures(self) -> Iterator[Step]:
        samples = self._held_out(Split.UNSEEN_PAIRS, Split.UNSEEN_CONCEPTS)
        yield from pictures.evaluate(
            self.model, self.judge, samples, self.languages, self.train, self.findings, self.settings.seed
        )

    def _compositions(self) -> Iterator[Step]:
        yield from compositions.evaluate(
            self.model, self.judge, self.train, self.findings, self.settings.seed
        )

    def _names(self) -> Iterator[Step]:
        self.named = yield from names.evaluate(self.model, self.judge, self.findings)

    def _upsamplers(self) -> Iterator[Step]:
        sample = self._held_out(Split.UNSEEN_PAIRS, Split.UNSEEN_CONCEPTS)[0]
        yield from upsamplers.evaluate(
            self.staged, self.judge, sample, self.languages[0], self.findings, self.settings.seed
        )

    def _rerank(self) -> Iterator[Step]:
        assert self.encoder is not None  # see `_why_not`
        sample = self._held_out(Split.UNSEEN_PAIRS, Split.UNSEEN_CONCEPTS)[0]
        yield from reranking.evaluate(
            self.model,
            self.encoder,
            self.judge,
            sample,
            self.languages[0],
            self.findings,
            self.settings.seed,
        )

    def _ablation(self) -> Generator[Step, None, None]:
        assert self.encoder is not None
        sample = self._held_out(Split.UNSEEN_PAIRS, Split.UNSEEN_CONCEPTS)[0]
        more = (sample, self.languages[0], self.findings, self.settings.seed)
        if self.settings.text_decoder is None:
            yield from ablation.arms(self.staged, None, self.encoder, self.judge, *more)
            self._note(
                f"The ablation lacks {ablation.TRAINED}: train one as docs/evaluation.md says and name it "
                "with --text-decoder."
            )
        else:
            with ablation.with_decoder(self.bundle, self.settings.text_decoder) as bundle:
                drawer = Model(bundle, device=str(self.device), precision=self.settings.precision)
                other = Stages(drawer)
                yield from ablation.arms(self.staged, other, self.encoder, self.judge, *more)
        yield from ablation.variety(self.staged, self.judge, *more)
        yield from ablation.guidance(self.staged, self.judge, *more)


def sections(names: Sequence[str]) -> tuple[Section, ...]:
    """Parts by name. Raises InputError for one that there is not."""
    for name in names:
        if name not in list(Section):
            raise InputError(f"unknown part {name!r}: choose {', '.join(Section)}")
    return tuple(section for section in Section if section in names)
