"""The loop of the verbs that draw: it loads, draws, writes, and tells of the pictures as they come."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from unclip.cli.lines import print_bytes, print_json
from unclip.cli.options import Common, Drawing, Prompted

if TYPE_CHECKING:
    from unclip.drawing import Event, Picture, Sign
    from unclip.manipulate.frames import Strip
    from unclip.model import Model
    from unclip.policy.guard import Guard, Withheld

PREVIEW_COLUMNS = 48
STDOUT = "-"

Number = TypeVar("Number", int, float)


def numbers(name: str, text: str, kind: type[Number]) -> list[Number]:
    """Numbers with commas between them. Raises InputError for what is none."""
    from unclip.errors import InputError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{name} {text!r}: give numbers with commas between, such as 1,1,2") from None


def draw(
    begin: Callable[[Model, Drawing], Iterator[Event]],
    drawing: Drawing,
    common: Common,
    texts: Sequence[str],
    count: int,
    strips: Sequence[Strip] = (),
    preview: bool = False,
    ranked: bool = False,
    parents: Sequence[Path] = (),
    prompts: Sequence[str] = (),
) -> None:
    """Load the model, draw, write and tell of the pictures as they come; a random seed is told at the end.

    Args:
        begin: makes events of the model and `drawing`, which has a seed by then.
        drawing: how to draw.
        common: where pictures go, what draws them, what is told of them.
        texts: prompts, or what stands for one in the names of the files.
        count: pictures of each text.
        strips: files that hold all pictures; there are single ones beside them only with --out.
        preview: whether to show the pictures in the terminal.
        ranked: whether they are the best of more, best first.
        parents: the files of the pictures that they are made of: a signature names them.
        prompts: texts that a policy looks at, before anything is loaded.

    Raises:
        PolicyError: a prompt or a picture that is given is refused, or all that were drawn are withheld.
        InputError: what is wrong with the files, before anything is loaded, or what `begin` refuses.
    """
    from unclip.cli.progress import StageProgress, check_preview
    from unclip.drawing import fresh_seed
    from unclip.images import ImageFormat
    from unclip.naming import Names
    from unclip.translation import Translator

    how: dict[str, Any] = {
        "metadata": not common.no_metadata,
        "provenance": not common.no_provenance,
        "watermark": common.watermark,
        "sign": _sign(common, parents),
    }
    piped = common.out == STDOUT
    singly = not strips or common.out is not None
    format = ImageFormat.named(common.format) if common.format else None
    seed = fresh_seed(drawing.seed)
    names = Names(None if piped else common.out, format, texts[0], count if ranked else 0)
    preview = preview and check_preview()
    if piped:
        _check_stdout(len(texts) * count, common.json or bool(strips))
    elif singly:
        names.check(((text, index) for text in texts for index in range(count)), seed)
    guard = _guard(common, prompts, parents)
    translate = common.translate if isinstance(common, Prompted) else None
    if translate is not None:
        Translator(translate)  # what is wrong with it is said before anything is loaded
    seconds: dict[str, float] = defaultdict(float)
    files = 0.0
    started = time.perf_counter()
    drawn: list[tuple[str, Picture]] = []
    withheld: list[Withheld] = []
    with StageProgress() as progress:
        progress.update("load", 0, 1)
        from unclip import load
        from unclip.policy import NONE

        seconds["import"] = time.perf_counter() - started
        model = load(
            common.model,
            device=common.device,
            precision=common.dtype,
            offload=common.offload,
            translate=translate,
            exact=common.exact,
            policy=NONE,  # the guard here refuses
            lora=common.lora if isinstance(common, Prompted) else None,
        )
        if common.policy is None and model.bundle.manifest.policy:
            guard = _guard(replace(common, policy=model.bundle.manifest.policy), prompts, parents)
        if guard is not None:
            guard.check_prompts(model.translated(prompts))
        events = begin(model, replace(drawing, seed=seed))
        if guard is not None:
            events = guard.watched(events, withheld.append)
        progress.update("load", 1, 1)
        seconds["load"] = time.perf_counter() - started - seconds["import"]
        for event in events:
            progress.update(event.stage, event.step, event.total)
            if not event.step:
                progress.print(f"{event.total} {event.stage} to draw")
            seconds[event.stage] += event.seconds
            written = time.perf_counter()
            for picture in event.pictures:
                if piped:
                    path = STDOUT
                elif singly:
                    path = str(names.write(picture, len(drawn) + 1, **how))
                else:
                    path = str(strips[0].path)
                drawn.append((path, picture))
                if preview:
                    progress.print(_shown(picture))
                if piped:
                    print_bytes(picture.encode(names.format, **how))
                elif singly and not common.json:
                    progress.print_result(path)
            files += time.perf_counter() - written
    for strip in strips:
        strip.write([picture for _, picture in drawn], **how)
        if not common.json:
            typer.echo(strip.path)
    seconds |= {"files": files, "total": time.perf_counter() - started}
    for one in withheld:
        typer.echo(one, err=True)
    if common.json:
        said = {"withheld": [asdict(one) for one in withheld]} if withheld else {}
        print_json(_document(model, drawn, names.format, seconds) | said)
    elif drawing.seed is None:
        typer.echo(f"seed {seed}", err=True)


def _sign(common: Common, parents: Sequence[Path]) -> Sign | None:
    """Signs with the user's key, where there is one. Raises UnclipError where it cannot be used."""
    from unclip.provenance import Signer

    signer = None if common.no_provenance else Signer.find()
    return None if signer is None else partial(signer.sign, parents=parents)


def _guard(common: Common, prompts: Sequence[str], parents: Sequence[Path]) -> Guard | None:
    """Refuses what the policy that was chosen does not allow, before any work; None where all is allowed.

    Raises:
        InputError: there is no such policy, or an extra is missing that it needs.
        PolicyError: a prompt or a picture is refused.
    """
    if common.policy is None:
        return None
    from unclip.errors import warn
    from unclip.policy import Policy
    from unclip.policy.guard import Guard

    guard = Guard(Policy.named(common.policy))
    if guard.policy.refuses_nothing:
        return None
    guard.check_prompts(prompts)
    guard.check_applied()
    guard.check_pictures({"picture": parents})
    typer.echo(guard.said(), err=True)
    for note in guard.policy.notes(prompts):
        warn(note)
    return guard


def _check_stdout(count: int, other: bool) -> None:
    """Refuse to write to stdout what is not one picture alone, or what nothing reads."""
    from unclip.errors import InputError

    said = f"--out {STDOUT} writes one picture to stdout"
    if count != 1:
        raise InputError(f"{said}, and {count} are asked for: name a folder")
    if other:
        raise InputError(f"{said}, and nothing else: leave out --json, --gif and the like")
    if sys.stdout.isatty():
        raise InputError(f"{said}, which is a terminal: add > apple.png, or | and a program that takes it")


def _shown(picture: Picture) -> str:
    import shutil

    from unclip.sheets import half_blocks

    return half_blocks(picture.image, min(PREVIEW_COLUMNS, shutil.get_terminal_size().columns))


def _document(
    model: Model, drawn: list[tuple[str, Picture]], format: str, seconds: dict[str, float]
) -> dict[str, Any]:
    """The output of --json for pictures that were drawn."""
    from unclip import __version__
    from unclip.record import valued
    from unclip.runtime import peak_memory_bytes

    pictures = [
        {
            "path": path,
            "prompt": picture.prompt,
            "seed": picture.seed,
            "index": picture.index,
            "score": None if picture.score is None else round(picture.score, 4),
            "size": picture.image.width,
            "format": str(format),
            "settings": {name: valued(text) for name, text in picture.settings.items()},
        }
        for path, picture in drawn
    ]
    return {
        "model": {"name": model.bundle.name, "weights": model.bundle.identity, "version": __version__},
        "pictures": pictures,
        "peak_memory_bytes": peak_memory_bytes(),
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
    }
