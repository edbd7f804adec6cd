"""`unclip info`: what pictures' files say of how they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unclip.cli import options
from unclip.cli.lines import print_json

app = typer.Typer()


@app.command()
def info(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, files.")],
    json: options.Json = False,
) -> None:
    """Show what pictures were made with: prompt, seed, model, settings.

    `unclip generate --like IMAGE` draws one again. Other programs leave it out when they save a picture anew.
    """
    from unclip.errors import UnclipError, escaped
    from unclip.images import header, read_metadata

    found: list[dict[str, Any]] = []
    for path in images:
        width, height, _ = header(path)
        found.append({"path": str(path), "width": width, "height": height, "made": read_metadata(path)})
    if json:
        from unclip.record import valued

        for one in found:
            one["made"] = {name: valued(text) for name, text in one["made"].items()}
        print_json(found)
    for one in [] if json else found:
        typer.echo(f"{escaped(one['path'])}  {one['width']} x {one['height']}")
        length = max(map(len, one["made"]), default=0)
        for name, text in one["made"].items():
            typer.echo(f"  {escaped(name):<{length}}  {escaped(text)}")
    if silent := [one["path"] for one in found if not one["made"]]:
        raise UnclipError(
            f"{', '.join(silent)}: nothing is said of how it was made; it is not unclip's, was written "
            "without metadata, or another program has left them out"
        )
