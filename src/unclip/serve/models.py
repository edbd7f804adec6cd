"""The bundles that are served: which there are, by which names, and which of them are loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Unpack

from PIL import Image

from unclip.bundle import Bundle
from unclip.data.styles import ANY_STYLE
from unclip.diffusion.defaults import GuidedSampling
from unclip.drawing import Event, Job, Options
from unclip.errors import BundleError, InputError, listed
from unclip.given import Given, Inversion, Kind, Known
from unclip.model import Model
from unclip.models.adm import ADMConfig
from unclip.models.glide import GlideConfig
from unclip.models.upsampler import UpsamplerConfig
from unclip.policy import NONE
from unclip.runtime import return_freed_memory
from unclip.serve.memory import needed_bytes
from unclip.stages.networks import Where
from unclip.stages.painting import Painting
from unclip.translation import Translate, Translator

# What clients of the hosted service ask for; it means the first bundle.
HOSTED = ("dall-e-2", "dall-e-3")
HOSTED_PREFIX = "gpt-image-"


@dataclass(frozen=True)
class Abilities:
    """The things that a bundle can do, told without its weights.

    Attributes:
        sizes: sides in pixels that can be asked for.
        default_size: the one that is drawn where none is.
        verbs: of the model, that its stages can do.
        settings: names of the settings that mean something.
        steps: of the first network, by verb; 0 where codes are written.
        guidance: of the first network; None where it has none.
        styles: that can be asked for by name.
        first: side in pixels that the first network paints.
        larger: side and steps of each upsampler, by the sizes that need it.
    """

    sizes: tuple[int, ...]
    default_size: int
    verbs: tuple[str, ...]
    settings: tuple[str, ...]
    steps: Mapping[str, int]
    guidance: float | None
    styles: tuple[str, ...]
    first: int
    larger: Mapping[int, tuple[tuple[int, int], ...]]

    @classmethod
    def of(cls, model: Model) -> Abilities:
        family = model.family
        painting = _first(model, Job("a picture", 0, 0))
        steps = {"generate": 0 if painting is None else painting.denoising.steps}
        verbs = ["generate"]
        if Kind.KNOWN in family.takes:
            side = model.default_size
            known = Known(Image.new("RGB", (side, side)), Image.new("L", (side, side)))
            job = Job("a picture", 0, 0, Given(known=known))
            filling = _first(model, job)
            verbs += ["edit", "outpaint"]
            steps["edit"] = 0 if filling is None else filling.way(job).steps
        if {Kind.EMBEDDING, Kind.NOISE} <= family.takes:
            verbs += ["vary", "blend", "restyle"]
            steps["vary"] = Inversion.steps
        sampling = None if painting is None else painting.denoising.sampling
        return cls(
            sizes=model.sizes,
            default_size=model.default_size,
            verbs=tuple(verbs),
            settings=tuple(sorted(family.honours)),
            steps=steps,
            guidance=sampling.guidance if isinstance(sampling, GuidedSampling) else None,
            styles=(*model.bundle.styles.known, ANY_STYLE) if model.bundle.styles.known else (),
            first=model.sizes[0],
            larger={size: _larger(model, size) for size in model.sizes},
        )

    def work(self, verb: str, size: int, steps: int | None = None) -> int:
        """Pixels times steps of a picture of a side, what a job is reckoned by."""
        own = self.steps.get(verb, self.steps["generate"]) if steps is None else steps
        return max(1, own) * self.first**2 + sum(side**2 * count for side, count in self.larger[size])


def _first(model: Model, job: Job) -> Painting | None:
    """The network that paints first; None where codes are written."""
    stages = model.family.stages(Options(size=model.default_size), [job])
    return next((stage for stage in stages if isinstance(stage, Painting) and not stage.enlarges), None)


def _larger(model: Model, size: int) -> tuple[tuple[int, int], ...]:
    stages = model.family.stages(Options(size=size), [Job("a picture", 0, 0)])
    found = [stage for stage in stages if isinstance(stage, Painting) and stage.enlarges]
    return tuple((_side(stage.config), stage.denoising.steps) for stage in found)


def _side(config: UpsamplerConfig | GlideConfig | ADMConfig) -> int:
    return config.high_size if isinstance(config, UpsamplerConfig) else config.image_size


@dataclass(eq=False)
class Models:
    """Bundles, each loaded when it is first drawn with. Only one thread may call `get` and `unload`.

    Args:
        bundles: by name, the first one is meant where no name is given.
        aliases: other names of them.
        where: device, precision and `exact`, as of `unclip.load`.
        translate: what prompts are put through, as of `unclip.load`.
        memory: bytes that the weights of loaded bundles may have together; None is no bound. Those that were
            drawn with longest ago go before another is loaded.
    """

    bundles: Mapping[str, Bundle]
    aliases: Mapping[str, str] = field(default_factory=dict)
    where: Where = field(default_factory=Where)
    memory: int | None = None
    translate: Translate | None = None
    loaded: dict[str, Model] = field(default_factory=dict)
    _needed: dict[tuple[str, int], int] = field(default_factory=dict)

    @cached_property
    def abilities(self) -> Mapping[str, Abilities]:
        """Of each bundle; no weights are read."""
        return {
            name: Abilities.of(Model(bundle, policy=NONE, **self.where))
            for name, bundle in self.bundles.items()
        }

    @classmethod
    def of(
        cls,
        sources: Sequence[str | None],
        aliases: Sequence[str] = (),
        memory: int | None = None,
        translate: Translate | None = None,
        **where: Unpack[Where],
    ) -> Models:
        """Of bundles' names or folders, and aliases "NAME=BUNDLE".

        Raises:
            BundleError: one that is not there, or two of one name.
            InputError: an alias of another form or of a bundle that is not served, or no such translator.
        """
        bundles: dict[str, Bundle] = {}
        for source in sources:
            bundle = Bundle.load(source)
            if bundle.name in bundles:
                raise BundleError(f"two bundles are called {bundle.name}: serve one of them")
            bundles[bundle.name] = bundle
        names = {}
        for alias in aliases:
            name, equals, meant = alias.partition("=")
            if not (name and equals and meant in bundles):
                raise InputError(f"alias {alias!r}: give NAME=BUNDLE, a bundle of {listed(bundles)}")
            names[name] = meant
        if translate is not None:
            Translator(translate)  # what is wrong with it is said before anything is served
        return cls(bundles, names, where, memory, translate)

    @property
    def first(self) -> str:
        """The bundle that is meant where no name is given."""
        return next(iter(self.bundles))

    def named(self, name: str | None) -> str | None:
        """The bundle that a client means; None where there is none of that name."""
        if name is not None and name in self.aliases:
            return self.aliases[name]
        if name is None or name in HOSTED or name.startswith(HOSTED_PREFIX):
            return self.first
        return name if name in self.bundles else None

    def get(self, name: str) -> Model:
        """A model, loaded now if it is not. Raises BundleError as `unclip.load` does."""
        if name not in self.loaded:
            self.add(name)  # in another process it may have been added without this one
            for other in self.leaving(name):
                self.unload(other)
            # `Service.guard` refuses, by the policy that holds there
            self.loaded[name] = Model(self.bundles[name], translate=self.translate, policy=NONE, **self.where)
        self.loaded[name] = self.loaded.pop(name)  # the last is what was drawn with last
        return self.loaded[name]

    def add(self, name: str) -> None:
        """Serve a bundle of the user's disk as well. Raises BundleError where it is none that draws."""
        if name not in self.bundles:
            bundle = Bundle.load(name)
            # new ones, for somebody may be going through those that are there
            self.abilities = {
                **self.abilities,
                name: Abilities.of(Model(bundle, policy=NONE, **self.where)),
            }
            self.bundles = {**self.bundles, name: bundle}

    def load(self, name: str) -> None:
        """Have a model read its networks, as a first picture would."""
        model = self.get(name)
        model.parts([Job(example(model), 0, 0)], Options(size=model.default_size))

    def unload(self, name: str) -> None:
        """Let a model go."""
        self.loaded.pop(name, None)
        return_freed_memory()

    def leaving(self, name: str) -> list[str]:
        """The bundles that go before this one is loaded, those first that were drawn with longest ago."""
        if self.memory is None or name in self.loaded:
            return []
        held = list(self.loaded)
        while held and self.weight(name) + sum(map(self.weight, held)) > self.memory:
            held.pop(0)
        return list(self.loaded)[: len(self.loaded) - len(held)]

    def needed(self, name: str, size: int) -> int:
        """Bytes that drawing one picture of a size takes beside the weights, about."""
        if (name, size) not in self._needed:
            self._needed[name, size] = needed_bytes(self.get(name), size)
        return self._needed[name, size]

    def weight(self, name: str) -> int:
        """Bytes of a bundle's files."""
        return sum(component.bytes for component in self.bundles[name].components.values())


def example(model: Model) -> str:
    """A prompt that the bundle draws."""
    return "anything" if model.bundle.family == "adm" else "a red apple"


def first_picture(model: Model) -> Iterator[Event]:
    """Draw something: whoever has drawn once is warm."""
    return model.stream(example(model), seed=0)
