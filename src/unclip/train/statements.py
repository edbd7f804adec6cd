"""The statements that a bundle and its card make on a run: what is true of its folder and its corpus.

The bundle is called as the folder of the run, and its licence and data are what the manifest of the corpus
says, unless the recipe's table `bundle` says otherwise. A recipe that is made for one corpus says what is
true of weights trained on it in `bundle.trained_on.NAME`; for another corpus that counts nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from unclip.config import from_dict
from unclip.data.corpus import Corpus
from unclip.data.later_sources import MORE_SOURCES
from unclip.data.records import FACES, SCENES
from unclip.data.styles import ANY_STYLE
from unclip.errors import escaped
from unclip.manifest import Styles
from unclip.train import record
from unclip.train.results import Results
from unclip.train.stages import TOKENIZER

PICTOGRAMS = "pictograms"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Statements:
    """Statements on weights: their licence, what they were trained on, what they cannot do, what they read.

    `languages` are codes such as "en", of those that prompts may be in.
    """

    licence: str = ""
    data: str = ""
    limits: str = ""
    languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class BundleTable:
    """The table `bundle` of a recipe.

    Attributes:
        name: of the bundle; empty is that of the run's folder.
        licence, data, limits, languages: see `Statements`; empty is what the corpus says.
        shares: refer to what other bundles have, and copy nothing of it.
        styles: those of the corpus in which prompts that name none are drawn.
        trained_on: statements that hold of weights trained on the corpus of this name, and of no others.
    """

    name: str = ""
    licence: str = ""
    data: str = ""
    limits: str = ""
    languages: tuple[str, ...] = ()
    shares: bool = False
    styles: tuple[str, ...] = ()
    trained_on: Mapping[str, Statements] = field(default_factory=dict)


def corpus_name(corpus: Corpus) -> str:
    """The name of a corpus that recipes make statements on; empty for one's own pictures."""
    known = {SCENES, FACES, *(source.name for source in MORE_SOURCES)}
    return PICTOGRAMS if set(corpus.column("source")) <= known else ""


def styles_of(run: Results, table: BundleTable) -> Styles:
    """The styles of the corpus; those of the table that it has are the clear ones."""
    known = Counter(style for style in run.train.column("style") if style not in ("", ANY_STYLE))
    ordered = tuple(sorted(known, key=lambda style: (-known[style], style)))
    return Styles(ordered, tuple(style for style in table.styles if style in known))


def table_of(run: Results) -> BundleTable:
    """The table of a run's recipe, completed by what is true of its folder and its corpus."""
    table = from_dict(BundleTable, run.recipe["bundle"], "bundle")
    known = table.trained_on.get(corpus_name(run.train), Statements())
    licences = sorted({licence or UNKNOWN for licence in run.train.column("licence")})
    return replace(
        table,
        name=table.name or escaped(run.out.resolve().name),
        licence=table.licence or known.licence or escaped(", ".join(licences)),
        data=table.data or known.data or f"{len(run.train):,} captioned pictures of one's own",
        limits=table.limits or known.limits,
        languages=table.languages or known.languages,
    )


def commands(run: Results) -> list[str]:
    """The commands that the stages of a run were trained by, as they were typed, each once."""
    told = [record.read(run.record_path(stage)) for stage in (TOKENIZER, *run.trained)]
    found = [command for one in told if one is not None for command in one.commands]
    return list(dict.fromkeys([*found, *([run.command] if run.command else [])]))
