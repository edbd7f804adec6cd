"""The model that `unclip.load` returns: every verb, of every family whose stages can do it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from PIL import Image
from torch import Tensor

from unclip.adapters import open_bundle
from unclip.drawing import Event, Job, Options, Picture, Settings
from unclip.errors import InputError
from unclip.given import Given, Inversion, Known
from unclip.images import Source, opened
from unclip.keywords import spelled_out
from unclip.manipulate.editing import FilledIn, edit
from unclip.manipulate.fitting import Fit, squared
from unclip.manipulate.latents import FromLatents, Latents, inverted
from unclip.manipulate.masks import Feather
from unclip.manipulate.outpaint import Margins, outpaint
from unclip.manipulate.principal_components import Basis, reconstruct
from unclip.manipulate.variations import Start, blend, restyle, vary
from unclip.models.code_sampling import CodeSampling
from unclip.pipeline import Pipeline, pictures_of
from unclip.policy import Policy
from unclip.record import Record, like
from unclip.stages.stage import finished
from unclip.translation import Translate


@spelled_out()
def load(
    source: str | Path | None = None,
    *,
    device: str | None = None,
    precision: str | None = None,
    offload: bool = False,
    exact: bool = False,
    translate: Translate | None = None,
    policy: str | Path | Policy | None = None,
    lora: str | Path | None = None,
) -> Model:
    """Load a bundle to draw with.

    Args:
        source: a bundle's name or folder; None is the shipped one.
        device: "cpu", "cuda", "cuda:N" or "mps"; None is CUDA where there is one.
        precision: "float32", "bfloat16" or "float16"; None is bfloat16 where the device computes in it. What
            draws codes one by one takes "int8" as well.
        offload: hold the networks of one stage at a time: memory for the largest and not for all, and they
            are read again for the next pictures.
        exact: draw the same bits alone and in any batch on processors of one kind, and within 2 of 255 on
            others: float32, one picture at a time, on one thread. A picture's `settings` name the kind.
            One processor core is used: "The same picture again" in docs/python.md has what it costs.
        translate: a command, or a function from a text to a text, that prompts are put through. A command
            gets them on stdin, one a line, and writes as many lines to stdout; no shell reads it. Pictures
            keep the prompts as they were, and their translations.
        policy: the rules of what may be drawn: a preset ("dalle2", "midjourney", "none"), a file of TOML, or
            a `unclip.policy.Policy`; None is what the bundle asks for, which is nothing for those that ship.
            Every verb raises PolicyError for a prompt or a picture that is refused, before any work. Of
            several pictures that were drawn, one that is refused is withheld with a warning; where all are,
            there is the error. Events hold no estimates while rules of pictures are applied.
        lora: a folder of adapters that `unclip fit --lora` wrote, or that of the fit; without a source they
            say to which bundle they belong.

    Raises:
        BundleError: there is no such bundle, the adapters belong to another, a file of it is missing or
            altered, or its family does not draw.
        InputError: an unknown device or precision, another precision than float32 with `exact`, an unknown
            policy, or an extra that its rules need and that is missing.
    """
    return Model(
        open_bundle(source, lora),
        device=device,
        precision=precision,
        offload=offload,
        exact=exact,
        translate=translate,
        policy=policy,
    )


class Model(Pipeline):
    """A loaded bundle: draws pictures from text, and pictures from pictures.

    Every verb is there for every family; one that its stages cannot do is refused with the reason.
    """

    @spelled_out(Settings, like, Options)
    def like(
        self, picture: Source | Record, prompt: str | None = None, **settings: Unpack[Settings]
    ) -> list[Picture]:
        """The picture that a file's metadata tell of, drawn again: see `record.like`."""
        return pictures_of(like(self, picture, prompt, **settings))

    @spelled_out(FromLatents, vary, FromLatents, Options)
    def vary(
        self, image: Source, *, n: int = 1, strength: float = 1.0, **settings: Unpack[FromLatents]
    ) -> list[Picture]:
        """Variations of a picture: see `manipulate.variations.vary`."""
        return pictures_of(vary(self, image, n=n, strength=strength, **settings))

    @spelled_out(FromLatents, blend, FromLatents, Options)
    def blend(
        self,
        *images: Source,
        frames: int = 8,
        weights: Sequence[float] | Sequence[Sequence[float]] | None = None,
        start: Start = Start.SLERP,
        **settings: Unpack[FromLatents],
    ) -> list[Picture]:
        """Pictures between pictures: see `manipulate.variations.blend`."""
        return pictures_of(blend(self, images, frames=frames, weights=weights, start=start, **settings))

    @spelled_out(FromLatents, restyle, FromLatents, Options)
    def restyle(
        self,
        image: Source,
        origin: str,
        to: str,
        *,
        amount: float = 1.0,
        frames: int = 1,
        **settings: Unpack[FromLatents],
    ) -> list[Picture]:
        """A picture moved as `to` differs from `origin`: see `manipulate.variations.restyle`."""
        return pictures_of(restyle(self, image, to, origin, amount=amount, frames=frames, **settings))

    @spelled_out(FilledIn, edit, FilledIn, Options)
    def edit(
        self,
        image: Source,
        mask: Source | None,
        prompt: str,
        *,
        fit: str = Fit.LETTERBOX,
        feather: Feather | None = None,
        **settings: Unpack[FilledIn],
    ) -> list[Picture]:
        """A part of a picture drawn anew, or with the prompt "" removed: see `manipulate.editing.edit`."""
        return pictures_of(edit(self, image, mask, prompt, fit=fit, feather=feather, **settings))

    @spelled_out(FilledIn, Margins, outpaint, FilledIn, Options)
    def outpaint(
        self,
        image: Source,
        prompt: str,
        *,
        left: int = 0,
        right: int = 0,
        top: int = 0,
        bottom: int = 0,
        **settings: Unpack[FilledIn],
    ) -> list[Picture]:
        """A picture extended by so many pixels on each side: see `manipulate.outpaint.outpaint`."""
        return pictures_of(outpaint(self, image, prompt, Margins(left, right, top, bottom), **settings))

    @spelled_out(FromLatents, reconstruct, FromLatents, Options)
    def reconstruct(
        self,
        image: Source,
        components: Sequence[int] | None = None,
        *,
        basis: Path | str | None = None,
        **settings: Unpack[FromLatents],
    ) -> list[Picture]:
        """Pictures of an embedding's first principal components: see `principal_components.reconstruct`."""
        return pictures_of(reconstruct(self, image, components, basis=basis, **settings))

    @spelled_out()
    def complete_caption(
        self, beginning: str = "", n: int = 1, seed: int = 0, sampling: CodeSampling | None = None
    ) -> list[str]:
        """Write captions on: DALL-E 1 knows texts as well as pictures (section 2 of 2102.12092).

        Args:
            beginning: what all captions begin with.
            n: captions, 1 to 100.
            seed: caption k of a seed is the same whatever n is, in float32; with `exact` to the bit.
            sampling: temperature, top_k and top_p; guidance is none.

        Raises:
            InputError: a number outside its range, guidance, a beginning that leaves no room, or a family
                that does not write.
        """
        options = Options(n=n, seed=seed)
        self.check_prompts([beginning])
        with self.networks.settled():
            return self.family.complete_caption(beginning, options.n, seed, sampling or CodeSampling())

    def own_basis(self) -> Basis | None:
        """The principal components that the bundle brings with it; None where it brings none."""
        return Basis.of_bundle(self)

    # --- pictures and their latents ---

    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """CLIP's embeddings of pictures, (N, E), as the decoder takes them. Raises InputError for none."""
        self.check_pictures({"picture": images})
        return self.family.inverting(Inversion()).embed(images)

    @spelled_out()
    def encode(
        self, image: Source, inversion: Inversion | None = None, *, fit: str = Fit.LETTERBOX
    ) -> Latents:
        """A picture's two latents: CLIP's embedding, and the noise that DDIM draws the picture from.

        Section 3 of 2204.06125. `fit` says what is done with a picture that is not square.

        Raises:
            InputError: no picture, or steps that cannot be taken.
        """
        self.check_pictures({"picture": [image]})
        picture = squared(opened(image)[0], Fit.named(fit))
        return finished(self.invert([picture], inversion or Inversion()))[0]

    @spelled_out()
    def decode(self, latents: Latents, *, size: int | None = None, seed: int = 0) -> Picture:
        """The picture of latents; `seed` is of the upsamplers' noise. Raises InputError for a size."""
        options = Options(size=self.size(size), seed=seed)
        return pictures_of(self.draw_latents({Job("", seed, 0): latents}, options))[0]

    def invert(
        self, images: Sequence[Image.Image], inversion: Inversion
    ) -> Generator[Event, None, list[Latents]]:
        """As `encode`, for several pictures, telling of every step; the generator returns the latents."""
        self.check_pictures({"picture": images})
        return inverted(self.family.inverting(inversion), images)

    def start_noise(self, jobs: Sequence[Job]) -> Tensor:
        """The noise (B, 3, S, S) that the decoder would start these pictures from."""
        return self.family.inverting(Inversion()).noise(jobs)

    def draw_embeddings(self, embeddings: Mapping[Job, Tensor], options: Options) -> Iterator[Event]:
        """Draw from CLIP image embeddings: the decoder's half of unCLIP (section 3.1 of 2204.06125).

        Args:
            embeddings: (E,) for each picture: of length one, or for Karlo as CLIP's projection gives it
                (`ClipEmbedder.embed_images` with `raw`). A job's prompt may be empty.
            options: as of `draw`.

        Raises:
            InputError: no embeddings, one of another shape, or options that mean nothing without the prior.
        """
        if not embeddings:
            raise InputError("embeddings none: give one for each picture")
        given = {job: Given(embedding=row, shared=job.given.shared) for job, row in embeddings.items()}
        return self.draw([replace(job, given=one) for job, one in given.items()], options)

    def draw_latents(
        self, latents: Mapping[Job, Latents], options: Options, *, eta: float = 0.0
    ) -> Iterator[Event]:
        """Draw from both latents, by DDIM as they were found.

        Args:
            latents: of each picture.
            options: as of `draw_embeddings`; steps, guidance and sampler are the inversion's.
            eta: noise of DDIM, 0 to 1.

        Raises:
            InputError: as of `draw_embeddings`.
        """
        jobs = [replace(job, given=one.given(eta=eta)) for job, one in latents.items()]
        return self.draw(jobs, options)

    # --- pictures to draw into ---

    @property
    def fills_in(self) -> bool:
        """True where a network of the bundle was trained to fill in."""
        return self.family.fills_in

    def filling_in(self, picture: Tensor, keep: Tensor) -> FillingIn:
        """Draws into a picture, as GLIDE's notebooks do: `generate` and `stream` keep what is to stay.

        Args:
            picture: (3, S, S) in [-1, 1], as large as what will be drawn; each stage sees it at its own size.
            keep: (1, S, S), 1 where it stays, bit for bit at size S, and 0 where something is drawn.

        Raises:
            InputError: no network was trained to fill in, a mask that is neither 0 nor 1 somewhere, or
                shapes that do not fit.
        """
        known = Known.of(picture, keep)
        self.check_pictures({"picture": [known.image]})
        self.family.check_known(known)
        return FillingIn(self, known)


@dataclass(frozen=True)
class FillingIn:
    """A model whose jobs are all given the same known pixels."""

    model: Model
    known: Known

    @spelled_out(Settings, Pipeline.generate, Options)
    def generate(self, prompt: str, **settings: Unpack[Settings]) -> list[Picture]:
        """As `Pipeline.generate`, of one prompt."""
        return pictures_of(self.stream(prompt, **settings))

    @spelled_out(Settings, Pipeline.generate, Options)
    def stream(self, prompt: str, **settings: Unpack[Settings]) -> Iterator[Event]:
        """As `Pipeline.stream`, of one prompt."""
        return self.model.asked([prompt], settings, Given(known=self.known))
