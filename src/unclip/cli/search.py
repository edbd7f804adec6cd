"""`unclip index` and `unclip search`: a search engine over one's own pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclip.cli import options
from unclip.cli.lines import print_bytes, print_json

if TYPE_CHECKING:
    from unclip.search.index import Hit, Index
    from unclip.search.writer import Summary

app = typer.Typer()

LISTED = 20  # skipped pictures that are named without --skipped
SHEET_COLUMNS = 5
SHOWN_COLUMNS = 32  # of a terminal, for a thumbnail
NAMED = 60  # letters of a query in a contact sheet's caption


@app.command("index")
def make_index(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures, with all that is in it.")],
    out: Annotated[
        Path | None, typer.Option(help="Where the index goes; by default FOLDER/.unclip-index.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that read pictures; by default one a core.", min=1)
    ] = None,
    batch: Annotated[int, typer.Option(help="Pictures that the model takes at once.", min=1)] = 64,
    skipped: Annotated[
        bool, typer.Option("--skipped", help="List every file that is skipped, new or not.")
    ] = False,
    model: options.Model = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Make a search index of a folder of pictures, or bring it up to date.

    Only what is new or changed is read, a renamed file is not embedded twice, and what is gone is removed.
    Ctrl-C stops it; the same command again goes on. While it runs, searches work. Files that are no pictures,
    broken, or of more than 50 megapixels are skipped and listed.
    """
    from unclip.cli.progress import StageProgress
    from unclip.search.store import index_of

    place = index_of(folder, out)  # what cannot be written is said before anything is loaded
    with StageProgress(rates=True) as progress:
        progress.update("load", 0, 1)
        from unclip.embedding import ClipEmbedder
        from unclip.search.writer import Writer

        clip = ClipEmbedder.load(model, device=device)
        progress.update("load", 1, 1)
        writer = Writer(folder, clip, model=model, out=place, workers=workers, batch=batch)
        for stage, done, total in writer.run():
            progress.update(stage, done, total)
    if json:
        print_json(_summary_document(writer.summary))
        return
    listed = writer.summary.skipped + (writer.summary.skipped_before if skipped else [])
    for line in _skipped_lines(listed, None if skipped else LISTED):
        typer.echo(line, err=True)
    typer.echo(_summary_line(writer.summary), err=True)
    typer.echo(writer.summary.index)


@app.command()
def search(
    query: Annotated[
        str | None,
        typer.Argument(help='A text in any language, a picture, or both: "a beach" + photo.jpg - "people".'),
    ] = None,
    index: Annotated[
        Path, typer.Option("--index", metavar="FOLDER", help="Folder of pictures, or of its index.")
    ] = Path(),
    top: Annotated[int, typer.Option(help="Most pictures to find.", min=1)] = 20,
    threshold: Annotated[
        float, typer.Option(help="Least probability, 0 to 1, of the pictures to find.", min=0, max=1)
    ] = 0.0,
    folder: Annotated[str | None, typer.Option(help="Only within this folder of the index.")] = None,
    since: Annotated[str | None, typer.Option(help="Only from this day on, such as 2024-05-31.")] = None,
    until: Annotated[str | None, typer.Option(help="Only up to this day.")] = None,
    min_size: Annotated[
        int | None, typer.Option(help="Only with so many pixels on the longer side.", min=1)
    ] = None,
    max_size: Annotated[int | None, typer.Option(help="Only with at most so many.", min=1)] = None,
    aspect: Annotated[
        str | None, typer.Option(help="Only square, portrait, landscape, or a ratio such as 16:9.")
    ] = None,
    all_copies: Annotated[
        bool, typer.Option("--all", help="List nearly equal pictures too, instead of one of each.")
    ] = False,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="List groups of nearly identical pictures instead.")
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the pictures found on a contact sheet.")
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Show the pictures in the terminal.")] = False,
    paths: Annotated[bool, typer.Option("--paths", help="Print paths alone, for other programs.")] = False,
    print0: Annotated[
        bool,
        typer.Option(
            "--print0", help="As --paths, with a NUL after each path in place of a line break, for xargs -0."
        ),
    ] = False,
    model: options.Model = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Find pictures in an indexed folder.

    Each line is a probability, a cosine and a path. The probability is that the picture shows what was
    asked for, as counted on pictures that the CLIP had not seen (docs/search.md). The cosine is CLIP's own
    score, to be compared within one query only.
    """
    from unclip.errors import InputError
    from unclip.images import ImageFormat
    from unclip.runtime import check_writable
    from unclip.search.query import Filters, day, parse

    if (query is None) != duplicates:
        raise InputError('say what to look for, for example `unclip search "a beach"`, or give --duplicates')
    filters = Filters(
        folder=folder,
        since=day(since) if since else None,
        until=day(until) if until else None,
        least_size=min_size,
        most_size=max_size,
        aspect=aspect,
    )
    if query is not None:
        parse(query)  # what is wrong with it is said before anything is loaded
    if sheet is not None:
        ImageFormat.named(sheet.suffix or ImageFormat.PNG)
        check_writable(sheet.parent)

    from unclip import search as engine
    from unclip.cli.progress import check_preview

    preview = preview and check_preview()
    with engine.open(index, model=model, device=device) as opened:
        if query is None:
            _print_duplicates(opened.duplicates(), json)
            return
        hits = opened.query(query, top=top, threshold=threshold, filters=filters, fold=not all_copies)
        if json:
            print_json(_hits_document(query, opened, hits))
        elif print0:
            print_bytes(b"".join(os.fsencode(hit.path) + b"\0" for hit in hits))
        for hit in [] if json or print0 else hits:
            if preview:
                _show(opened, hit)
            more = f"  (+{len(hit.copies)} like it)" if hit.copies else ""
            typer.echo(hit.path if paths else f"{hit.probability:6.1%}  {hit.cosine:.3f}  {hit.path}{more}")
        if sheet is not None and hits:
            _draw_sheet(sheet, query, opened, hits)
    if not hits:
        typer.echo("unclip: nothing found", err=True)


def _print_duplicates(groups: list[list[Path]], json: bool) -> None:
    if json:
        print_json([[str(path) for path in group] for group in groups])
        return
    typer.echo("\n\n".join("\n".join(map(str, group)) for group in groups) or "no duplicates")


def _show(index: Index, hit: Hit) -> None:
    from unclip.sheets import half_blocks

    thumbnail = index.thumbnail(hit)
    if thumbnail is not None:
        typer.echo(half_blocks(thumbnail, SHOWN_COLUMNS))


def _draw_sheet(path: Path, query: str, index: Index, hits: list[Hit]) -> None:
    from unclip.images import ImageFormat, encode, fit_square
    from unclip.runtime import atomic_path
    from unclip.search.reading import THUMBNAIL
    from unclip.sheets import contact_sheet

    found = [(thumbnail, hit) for hit in hits if (thumbnail := index.thumbnail(hit)) is not None]
    pictures = [fit_square(thumbnail, THUMBNAIL) for thumbnail, _ in found]
    captions = [f"{hit.probability:.0%} {hit.path.name}" for _, hit in found]
    drawn = contact_sheet(pictures, SHEET_COLUMNS, captions)
    data = encode(drawn, path.suffix or ImageFormat.PNG, {"query": query[:NAMED]})
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _hits_document(query: str, index: Index, hits: list[Hit]) -> dict[str, Any]:
    found = [
        {
            "path": str(hit.path),
            "probability": round(hit.probability, 6),
            "cosine": round(hit.cosine, 6),
            "width": hit.width,
            "height": hit.height,
            "bytes": hit.bytes,
            "date": hit.date,
            "copies": [str(path) for path in hit.copies],
        }
        for hit in hits
    ]
    clip = index.clip
    return {"query": query, "model": {"name": clip.name, "clip": clip.identity}, "pictures": found}


def _summary_document(summary: Summary) -> dict[str, Any]:
    return {
        "index": str(summary.index),
        "unchanged": summary.unchanged,
        "read": summary.read,
        "embedded": summary.embedded,
        "removed": summary.removed,
        "skipped": [{"path": path, "reason": reason} for path, reason in summary.skipped],
        "skipped_before": [{"path": path, "reason": reason} for path, reason in summary.skipped_before],
        "pictures": summary.pictures,
        "files": summary.files,
        "skipped_files": summary.all_skipped,
        "seconds": round(summary.seconds, 3),
    }


def _summary_line(summary: Summary) -> str:
    rate = f", {summary.read / summary.seconds:.0f} files/s" if summary.read and summary.seconds else ""
    return (
        f"{summary.pictures} pictures in {summary.files} files: {summary.embedded} embedded, "
        f"{summary.unchanged} files unchanged, {summary.removed} removed, {summary.all_skipped} skipped; "
        f"{summary.seconds:.1f} s{rate}"
    )


def _skipped_lines(skipped: list[tuple[str, str]], most: int | None) -> list[str]:
    """Pictures and what cannot be read by name, other files by their kinds; without a limit all by name."""
    from collections import Counter

    from unclip.errors import escaped
    from unclip.images import SUFFIXES
    from unclip.search.reading import UNREADABLE

    pictures, kinds = [], Counter[str]()
    for path, reason in skipped:
        if most is None or path.lower().endswith(SUFFIXES) or UNREADABLE in reason:
            pictures.append((path, reason))
        else:
            kinds[Path(path).suffix.lower() or "without suffix"] += 1
    lines = [escaped(f"skipped {path}: {reason}") for path, reason in pictures[:most]]
    if most is not None and len(pictures) > most:
        lines.append(f"... and {len(pictures) - most} more pictures; --skipped lists all")
    if kinds:
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(8))
        lines.append(f"skipped {kinds.total()} files that are no pictures: {counts}")
    return lines
