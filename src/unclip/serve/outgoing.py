"""Pictures that leave the server: their files, what these say of their origin, and previews."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import partial

from PIL import Image
from torch import Tensor

from unclip.drawing import COMPOSED, Picture
from unclip.images import encode, resize, to_pil
from unclip.provenance import Signer
from unclip.serve.contract import Asked
from unclip.xmp import SourceType


@dataclass(frozen=True)
class Marking:
    """The marks of pictures that leave the server, see docs/provenance.md.

    Attributes:
        provenance: whether their files say, by XMP, that a model made them.
        watermark: whether their pixels say it, invisibly.
        signer: signs them, and names the pictures that came with the request; None leaves them unsigned.
    """

    provenance: bool = True
    watermark: bool = False
    signer: Signer | None = None

    def file(self, picture: Picture, asked: Asked) -> bytes:
        """A picture as the file that was asked for."""
        sign = None
        if self.signer is not None:
            sources = [data for name, files in asked.pictures.items() if name != "mask" for data in files]
            sign = partial(self.signer.sign, parents=sources)
        return picture.encode(
            asked.output_format,
            provenance=self.provenance,
            watermark=self.watermark,
            sign=sign,
            quality=asked.compression,
        )

    def on_the_way(self, image: Image.Image, asked: Asked) -> bytes:
        """A picture on the way as the file that was asked for; it is neither watermarked nor signed."""
        composed = asked.verb in COMPOSED or "init" in asked.pictures
        made = SourceType.COMPOSITE if composed else SourceType.GENERATED
        return encode(
            image,
            asked.output_format,
            quality=asked.compression,
            made=made if self.provenance else None,
        )


LABELLED = Marking()


def preview_of(estimate: Tensor, size: int | None = None) -> Image.Image:
    """The first of estimates (B, 3, S, S) as a picture, enlarged to a side or as small as it is."""
    image = estimate[:1] if size is None else resize(estimate[:1].clamp(-1, 1), size)
    return to_pil(image[0])


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()
