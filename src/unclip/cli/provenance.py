"""`unclip provenance` and `unclip verify`: a key to sign pictures with, and what pictures prove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli import options
from unclip.cli.lines import print_json

app = typer.Typer()
keys = typer.Typer(help="Make the key that pictures are signed with, and show it.", no_args_is_help=True)


@keys.command()
def init(
    name: Annotated[str, typer.Option(help="The signer's name: it stands in every picture.")] = "unclip user",
) -> None:
    """Make a key and a certificate of your own; pictures are signed with it from then on.

    No authority vouches for it: who shall recognise your pictures needs the file anchor.pem, and passes it
    to `unclip verify --trust`. Keep key.pem secret. The folder is $UNCLIP_PROVENANCE, or `provenance` in the
    data folder.
    """
    from unclip.provenance import ANCHOR, KEY, make_key

    folder = make_key(name)
    typer.echo(f"pictures are now signed with {folder / KEY}: keep it secret", err=True)
    typer.echo(folder / ANCHOR)


@keys.command()
def show() -> None:
    """Say whether pictures are signed, and by which key."""
    from unclip.provenance import Signer, key_folder

    signer = Signer.find()
    if signer is None:
        typer.echo(f"no key in {key_folder()}: pictures are not signed; make one by `unclip provenance init`")
        return
    typer.echo(f"pictures are signed with the key in {signer.folder}, valid until {signer.expires:%Y-%m-%d}")
    typer.echo(f"name {signer.name}, SHA-256 of its certificate {signer.fingerprint}")


@app.command()
def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Pictures, or folders of them.")],
    trust: Annotated[
        list[Path] | None,
        typer.Option(metavar="PEM", help="Trust this authority's certificate, too; may be repeated."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Say where pictures came from, and how far that is proved.

    trusted: signed by a key that you trust, and not changed since. unknown-key: not changed since it was
    signed, by a key that you do not know. altered: changed after it was signed, or the signature is another
    picture's. broken: a signature that cannot be relied on. marked: its pixels have the watermark of what
    unclip draws. labelled: it says, unsigned, that a model made it. settings: it has, unsigned, settings of a
    drawing. nothing: no mark, which proves nothing.

    The exit code is 0 where all pictures are trusted, else 1.
    """
    from dataclasses import asdict

    from unclip.classify import picture_files
    from unclip.errors import UnclipError, escaped
    from unclip.provenance import Proof, verify

    documents, good = [], True
    for path in picture_files(files):
        try:
            verdict = verify(path, trust or ())
        except UnclipError as error:
            good = False
            documents.append({"path": str(path), "error": str(error)})
            if not json:
                typer.echo(escaped(f"{path}: error: {error}"))
            continue
        good = good and verdict.proof is Proof.TRUSTED
        documents.append({"path": str(path), **asdict(verdict)})
        if not json:
            typer.echo(escaped(f"{path}: {verdict}"))
            if verdict.watermark and verdict.proof is not Proof.MARKED:
                typer.echo(f"  watermark of {verdict.watermark}")
            if verdict.parents:
                typer.echo(escaped(f"  made of {', '.join(verdict.parents)}"))
    if json:
        print_json(documents)
    if not good:
        raise typer.Exit(1)
