"""`unclip data`: make a corpus, from packages of pictograms or from one's own pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unclip.cli.ray import RayMayStandAlone
from unclip.ray_cluster import HERE

if TYPE_CHECKING:
    from unclip.data.build import Progress
    from unclip.data.described import Defaults
    from unclip.embedding import ClipEmbedder
    from unclip.policy.sieve import FaceSieve, Sieve

app = typer.Typer(help="Make a corpus to train on.", no_args_is_help=True)

Size = Annotated[int, typer.Option(help="Side of a picture in pixels.", min=32, max=1024)]
Workers = Annotated[int | None, typer.Option(help="Processes that draw; by default one a core.", min=1)]

Large = Annotated[int, typer.Option(help="How many SVG pictures to draw at 1024 px too.", min=0)]
FitOption = Annotated[
    str,
    typer.Option("--fit", help="pad (white bars), crop (the middle) or trim (cut white margins, then pad)."),
]
Style = Annotated[str, typer.Option(help="Style of pictures that name none; it goes into captions.")]
Licence = Annotated[str, typer.Option(help="Licence of pictures that name none.")]
Language = Annotated[str, typer.Option(help="Language of plain captions.")]
CaptionColumn = Annotated[
    str, typer.Option(help="Column of tables that holds the captions; by default text, caption, title, ...")
]


@app.command()
def pictograms(
    out: Annotated[Path, typer.Argument(help="Folder of the corpus.")],
    archives: Annotated[
        Path | None,
        typer.Option(help="Folder of packages fetched before; otherwise they are fetched to OUT/archives."),
    ] = None,
    size: Size = 256,
    workers: Workers = None,
    large: Annotated[int, typer.Option(help="How many pictures to draw at 1024 px too.", min=0)] = 4000,
    scenes: Annotated[
        int,
        typer.Option(help="How many pictures to put together of others: two things, other colours.", min=0),
    ] = 0,
    faces: Annotated[
        int, typer.Option(help="How many faces to put together of parts, of hats and of glasses.", min=0)
    ] = 0,
    more: Annotated[
        bool,
        typer.Option("--more", help="Also the sources that came later: coloured icons, flags, signs."),
    ] = False,
) -> None:
    """Make the corpus that the shipped bundle is trained on: emoji, icons, clip art and stamps.

    The packages come from npm (`npm pack`) and Debian (`apt-get download`) and are neither installed nor run.
    Ctrl-C stops it; the same command again goes on.
    """
    from unclip.data.later_sources import MORE_SOURCES
    from unclip.data.pictograms import build_pictograms
    from unclip.data.sources import SOURCES
    from unclip.processes import cores

    events = build_pictograms(
        out,
        archives=archives,
        size=size,
        workers=workers or cores(),
        large=large,
        scenes=scenes,
        faces=faces,
        sources=MORE_SOURCES if more else SOURCES,
    )
    _run(events, out)


@app.command(cls=RayMayStandAlone)
def prepare(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE... OUT",
            help="Folders, tables or shards of captioned pictures; the last is the corpus's folder.",
        ),
    ],
    size: Size = 256,
    workers: Workers = None,
    large: Large = 0,
    fit: FitOption = "pad",
    style: Style = "",
    licence: Licence = "unknown",
    language: Language = "en",
    caption_column: CaptionColumn = "",
    rule: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=THRESHOLD", help="Another threshold for a rule; may be given several times."
        ),
    ] = [],  # noqa: B006 - typer makes a new one each time
    without: Annotated[
        list[str], typer.Option(metavar="NAME", help="Switch a rule off; may be given several times.")
    ] = [],  # noqa: B006
    rules: Annotated[bool, typer.Option("--rules", help="Print the table of rules, and end.")] = False,
    keep_languages: Annotated[
        str, typer.Option(metavar="CODES", help="Drop captions in other languages, e.g. en,de,ko.")
    ] = "",
    clip: Annotated[
        str,
        typer.Option(
            metavar="BUNDLE", help="A CLIP for the rules `semantic` and `score`: a name or a folder."
        ),
    ] = "",
    policy: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE", help="Drop what a policy refuses to draw, by captions and pictures."
        ),
    ] = "",
    drop_faces: Annotated[
        bool,
        typer.Option("--drop-faces", help="Drop what shows the face of a person (extra `policy`)."),
    ] = False,
    against: Annotated[
        list[Path],
        typer.Option(metavar="FOLDER", help="Evaluation pictures that must not be in the corpus."),
    ] = [],  # noqa: B006
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch pictures that tables name by their addresses.")
    ] = False,
    opt_out: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="List of addresses and hosts that are not fetched, one a line."),
    ] = [],  # noqa: B006
    allow_private: Annotated[
        bool,
        typer.Option("--allow-private", help="Also fetch from private networks and from this machine."),
    ] = False,
    fetch_seconds: Annotated[float, typer.Option(help="Most seconds for one picture.", min=0.1)] = 30.0,
    fetch_megabytes: Annotated[float, typer.Option(help="Most megabytes of one picture.", min=0.001)] = 20.0,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Draw on the Ray cluster of this address, or without one on a cluster of this machine.",
        ),
    ] = None,
) -> None:
    """Make a corpus from captioned pictures: read, drop what hinders training, write shards and a report.

    Sources are folders with a text beside each picture, tables (CSV, JSON, Parquet, Arrow) with paths, bytes
    or addresses, webdataset shards, data sets of the `datasets` library on disk, and mixtures of them. Each
    rule can be switched off, and has a threshold; `--rules` prints them. OUT/report/index.html shows what was
    dropped, with pictures; OUT/dropped.jsonl lists it. Ctrl-C stops it; the same command again goes on.
    """
    from unclip.data.prepare.manners import Manners, read_opt_outs
    from unclip.data.prepare.rules import Needs, chosen, listing
    from unclip.data.prepare.run import prepare as prepared
    from unclip.errors import InputError
    from unclip.processes import cores

    given = {Needs.CLIP: clip, Needs.EVALUATION: against, Needs.POLICY: policy, Needs.FACES: drop_faces}
    at_hand = [need for need, what in given.items() if what]
    languages = [code.strip() for code in keep_languages.split(",") if code.strip()]
    switched = chosen(rule, without, languages=languages, at_hand=at_hand)
    if rules:
        typer.echo("\n".join(listing(switched)))
        return
    if len(places) < 2:
        raise InputError("name a source and the corpus's folder: unclip data prepare SOURCE... OUT")
    if ray not in (None, HERE) and workers is not None:
        raise InputError("--workers is for this machine: the cluster has one process a core, leave it out")
    *sources, out = places
    manners = Manners(
        most_bytes=round(fetch_megabytes * 1e6),
        seconds=fetch_seconds,
        private=allow_private,
        opted_out=read_opt_outs(opt_out),
    )
    events = prepared(
        sources,
        out,
        rules=switched,
        defaults=_defaults(style, licence, language, fit, caption_column),
        size=size,
        workers=workers or cores(),
        large=large,
        manners=manners if fetch else None,
        embedder=_clip(clip) if clip else None,
        against=against,
        policy=_sieve(policy) if policy else None,
        faces=_faces() if drop_faces else None,
        ray=ray or "",
    )
    _run(events, out)
    typer.echo(f"the report is in {out / 'report' / 'index.html'}", err=True)


@app.command()
def folder(
    source: Annotated[Path, typer.Argument(help="Folder of captioned pictures.")],
    out: Annotated[Path, typer.Argument(help="Folder of the corpus.")],
    size: Size = 256,
    workers: Workers = None,
    large: Large = 0,
    fit: FitOption = "pad",
    style: Style = "",
    licence: Licence = "unknown",
    language: Language = "en",
    caption_column: CaptionColumn = "",
) -> None:
    """Make a corpus from a folder of captioned pictures: `unclip data prepare` with its rules off.

    Only what cannot be trained on is dropped: what cannot be read, is too small or too long, moves, or is
    there twice. It is counted and listed in OUT/dropped.jsonl.
    """
    from unclip.data.prepare.run import build_folder
    from unclip.processes import cores

    defaults = _defaults(style, licence, language, fit, caption_column)
    _run(
        build_folder(source, out, defaults=defaults, size=size, workers=workers or cores(), large=large), out
    )


@app.command()
def show(corpus: Annotated[Path, typer.Argument(help="Folder of a corpus.")]) -> None:
    """Print the card of a corpus: counts by source, licence and split, and what was dropped."""
    from unclip.data.card import read

    typer.echo(read(corpus))


def _defaults(style: str, licence: str, language: str, fit: str, caption_column: str) -> Defaults:
    from unclip.data.described import Defaults
    from unclip.data.records import Fit
    from unclip.errors import InputError

    if fit not in list(Fit):
        raise InputError(f"unknown fit {fit!r}: choose {', '.join(Fit)}")
    return Defaults(
        style=style, licence=licence, language=language, fit=Fit(fit), caption_column=caption_column
    )


def _clip(bundle: str) -> ClipEmbedder:
    from unclip.embedding import ClipEmbedder

    return ClipEmbedder.load(bundle)


def _sieve(policy: str) -> Sieve:
    from unclip.policy.sieve import Sieve

    return Sieve.named(policy)


def _faces() -> FaceSieve:
    from unclip.policy.sieve import FaceSieve

    return FaceSieve()


def _run(events: Iterable[Progress], out: Path) -> None:
    from unclip.cli.progress import StageProgress
    from unclip.data.outcome import summary

    with StageProgress() as progress:
        for event in events:
            progress.update(event.stage, event.done, event.total)
    typer.echo("\n".join(summary(out)), err=True)
    typer.echo(out)
