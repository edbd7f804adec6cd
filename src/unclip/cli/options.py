"""Options that several verbs share: types (`n: options.Count = 1`), and records of options (`grouped`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from unclip.cli import completion

if TYPE_CHECKING:
    from unclip.manipulate.frames import Strip

Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture, a file.")]
Count = Annotated[int, typer.Option("--n", "-n", help="Pictures, 1 to 100.")]
Fit = Annotated[
    str,
    typer.Option(
        help="What is done with a picture that is not square: letterbox, crop or stretch.",
        autocompletion=completion.words("letterbox", "crop", "stretch"),
    ),
]
Prior = Annotated[
    str | None,
    typer.Option(
        metavar="ar|diffusion|none",
        autocompletion=completion.words("ar", "diffusion", "none"),
        help="What draws the image embedding; none gives the decoder the text's. By default diffusion "
        "where the model has it.",
    ),
]
Candidates = Annotated[
    int | None, typer.Option(help="Embeddings that the prior draws for each picture, to keep the best.")
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="PATTERN",
        help="A folder, or a file name with {prompt} {seed} {index} {rank} {n}; - writes one picture to "
        "stdout. Files so named are replaced; without this option no other picture's file ever is.",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        help="png, jpeg or webp. By default what --out says, or png.",
        autocompletion=completion.words("png", "jpeg", "webp"),
    ),
]
Model = Annotated[
    str | None,
    typer.Option(help="Name or folder of a bundle: see `unclip models`.", autocompletion=completion.models),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, cuda:N or mps. By default CUDA if there is.",
        autocompletion=completion.words("cpu", "cuda", "mps"),
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="Compute in float32, bfloat16 or float16; DALL-E 1 also with weights in int8. By default "
        "bfloat16 where that is fast.",
        autocompletion=completion.words("float32", "bfloat16", "float16", "int8"),
    ),
]
Offload = Annotated[
    bool,
    typer.Option("--offload", help="Hold one network at a time: less memory, slower with many pictures."),
]
NoProvenance = Annotated[
    bool,
    typer.Option(
        "--no-provenance", help="Leave out the mark that a model made the picture, and do not sign it."
    ),
]
Watermark = Annotated[
    bool,
    typer.Option(
        "--watermark/--no-watermark",
        help="Mark what a model drew, invisibly: it outlives saving anew, cutting and another size.",
    ),
]
Translate = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        envvar="UNCLIP_TRANSLATE",
        help="Put prompts through this program first: one a line on stdin, as many lines on stdout. The "
        "pictures keep both texts.",
    ),
]
Lora = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Draw with adapters that `unclip fit --lora` wrote; without --model, on the bundle they name.",
    ),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="The same bits alone and in any batch, on processors of one kind; within 2 of 255 on others. "
        "Float32, one thread, one picture at a time: slower.",
    ),
]
Policy = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        autocompletion=completion.words("dalle2", "midjourney", "none"),
        help="Rules of what may be drawn: dalle2, midjourney, none, or a file of TOML. By default none, or "
        "what the model's card asks for.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for other programs.")]


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """Lets a verb take several options as one record: a frozen dataclass whose fields are options.

    typer reads the options of a verb from its signature. This one shows it the fields of each record, in
    their order, where the record stands, and hands the verb the record:

        @app.command()
        @grouped
        def vary(image: Image, n: Count = 1, *, drawing: Drawing, common: Common) -> None: ...

    `unclip vary a.png --size 64 --out b.png` calls it with `drawing.size` 64 and `common.out` "b.png". A
    subclass of a record adds options at its end; one that it declares again keeps its place.
    """
    signature = inspect.signature(verb, eval_str=True)
    records: dict[str, type[Any]] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }

    @wraps(verb)
    def with_records(**given: Any) -> None:
        for name, record in records.items():
            given[name] = record(**{field.name: given.pop(field.name) for field in fields(record)})
        verb(**given)

    parameters = []
    for name, parameter in signature.parameters.items():
        parameters += _parameters(records[name]) if name in records else [parameter]
    with_records.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # PEP 362
    return with_records


def _parameters(record: type[Any]) -> list[inspect.Parameter]:
    """The fields of a record as parameters."""
    types = get_type_hints(record, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
        )
        for field in fields(record)
    ]


@dataclass(frozen=True)
class Common:
    """The options of every verb that draws: where pictures go, what draws them, what is told of them."""

    out: Out = None
    format: Format = None
    model: Model = None
    device: Device = None
    dtype: Dtype = None
    offload: Offload = False
    exact: Exact = False
    json: Json = False
    no_metadata: Annotated[
        bool, typer.Option("--no-metadata", help="Leave seed, model and the source's hash out of the files.")
    ] = False
    no_provenance: NoProvenance = False
    watermark: Watermark = False
    policy: Policy = None


@dataclass(frozen=True)
class Prompted(Common):
    """The options of every verb that draws after a text."""

    translate: Translate = None
    lora: Lora = None


@dataclass(frozen=True)
class Drawing:
    """The options of drawing."""

    size: Annotated[
        int | None, typer.Option(help="Side in pixels: 64, 256, 512 or 1024. By default 256.")
    ] = None
    seed: Annotated[
        int | None, typer.Option(help="The same seed draws the same pictures. Random by default.")
    ] = None
    steps: Annotated[str | None, typer.Option(help="Steps of the decoder: a count.")] = None
    guidance: Annotated[
        float | None, typer.Option(help="Scale of the decoder's guidance; 1 is without, and inverts best.")
    ] = None


@dataclass(frozen=True)
class Inpainting(Drawing):
    """The options of drawing a part of a picture."""

    size: Annotated[
        int | None,
        typer.Option(
            help="Side in pixels of a square: 64, 256, 512 or 1024. By default the photo comes back at its "
            "size."
        ),
    ] = None
    guidance: Annotated[float | None, typer.Option(help="Scale of the decoder's guidance.")] = None
    prior: Prior = None
    prior_guidance: Annotated[float | None, typer.Option(help="Scale of the prior's guidance.")] = None
    candidates: Candidates = None
    rounds: Annotated[
        int | None,
        typer.Option(
            help="How often each step is taken, 1 to 20; more fit better, and take longer. By default 3, or "
            "1 with a decoder that was trained to fill in."
        ),
    ] = None


@dataclass(frozen=True)
class Together:
    """Files that hold all frames."""

    gif: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the frames as one moving GIF; single ones only with --out."),
    ] = None
    webp: Annotated[Path | None, typer.Option(metavar="FILE", help="The same as a moving WebP.")] = None
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same as a sheet of small pictures.")
    ] = None

    def strips(self) -> list[Strip]:
        """Those that are asked for. Raises InputError for one that cannot be written."""
        from unclip.manipulate.frames import Strip, StripKind

        return [Strip(StripKind(kind), path) for kind, path in vars(self).items() if path]
