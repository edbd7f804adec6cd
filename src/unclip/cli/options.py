"""Options that several verbs share, each a type: `seed: options.Seed = None`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture, a file.")]
Count = Annotated[int, typer.Option("--n", "-n", help="Pictures, 1 to 100.")]
Size = Annotated[int | None, typer.Option(help="Side in pixels: 64, 256, 512 or 1024. By default 256.")]
Seed = Annotated[int | None, typer.Option(help="The same seed draws the same pictures. Random by default.")]
Steps = Annotated[str | None, typer.Option(help="Steps of the decoder: a count.")]
Guidance = Annotated[
    float | None, typer.Option(help="Scale of the decoder's guidance; 1 is without, and inverts best.")
]
DecoderGuidance = Annotated[float | None, typer.Option(help="Scale of the decoder's guidance.")]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="PATTERN",
        help="A folder, or a file name with {prompt} {seed} {index} {n}. Files so named are replaced; "
        "without this option no other picture's file ever is.",
    ),
]
Format = Annotated[str | None, typer.Option(help="png, jpeg or webp. By default what --out says, or png.")]
Model = Annotated[str | None, typer.Option(help="Name or folder of a bundle: see `unclip models`.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or mps. By default CUDA if there is.")]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="Compute in float32, bfloat16 or float16; DALL-E 1 also with weights in int8. By default "
        "bfloat16 where that is fast."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for other programs.")]
NoMetadata = Annotated[
    bool, typer.Option("--no-metadata", help="Leave seed, model and the source's hash out of the files.")
]
Fit = Annotated[
    str,
    typer.Option(help="What is done with a picture that is not square: letterbox, crop or stretch."),
]
Offload = Annotated[
    bool,
    typer.Option("--offload", help="Hold one network at a time: less memory, slower with many pictures."),
]
Gif = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the frames as one moving GIF; single ones only with --out."),
]
WebP = Annotated[Path | None, typer.Option(metavar="FILE", help="The same as a moving WebP.")]
Sheet = Annotated[Path | None, typer.Option(metavar="FILE", help="The same as a sheet of small pictures.")]
Prior = Annotated[
    str | None,
    typer.Option(
        metavar="ar|diffusion|none",
        help="What draws the image embedding; none gives the decoder the text's. By default diffusion "
        "where the model has it.",
    ),
]
PriorGuidance = Annotated[float | None, typer.Option(help="Scale of the prior's guidance.")]
Candidates = Annotated[
    int | None, typer.Option(help="Embeddings that the prior draws for each picture, to keep the best.")
]
Rounds = Annotated[
    int | None,
    typer.Option(
        help="How often each step is taken, 1 to 20; more fit better, and take longer. By default 3, or 1 "
        "with a decoder that was trained to fill in."
    ),
]
