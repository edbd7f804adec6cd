"""ADM: a class -> a picture, guided by a classifier of noised pictures, enlarged by a network like it.

Sections 4 and 5 of 2105.05233, drawn as guided-diffusion draws. NCSN is a bundle of this family, too.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import ClassVar

from unclip.drawing import Job, Options
from unclip.errors import BundleError, InputError, shown
from unclip.families import Family
from unclip.given import Kind
from unclip.models.adm import ADMConfig, ClassifierConfig
from unclip.stages.classed import BASE, CLASSIFIER, Classed
from unclip.stages.denoising import Denoising, asked_sampling, default_sampling
from unclip.stages.networks import Form, Networks
from unclip.stages.stage import Stage
from unclip.stages.upsampler import Chain

ANYTHING = "anything"  # the prompt of a model that has no classes


class ADM(Family):
    """A prompt is a class: its number ("207" or "class 207"), or its name where the bundle has names.

    A model without classes draws "anything", or with a classifier what it is guided to.
    """

    honours = frozenset({"steps", "guidance", "sampler", "init", "strength", "fit"})
    takes = frozenset({Kind.PICTURE, Kind.KNOWN})
    forms: ClassVar = {CLASSIFIER: Form.PLAIN}

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        bundle = self.bundle
        self.config: ADMConfig = bundle.config(BASE)
        self.chain = Chain.of(networks, self.config.image_size, BASE)
        self.sizes = self.chain.sizes
        self.classes, self.guided = self.config.classes, CLASSIFIER in bundle.components
        if self.guided:
            guide: ClassifierConfig = bundle.config(CLASSIFIER)
            if guide.image_size != self.config.image_size or self.classes not in (None, guide.classes):
                raise BundleError(
                    f"bundle {bundle.name}: its classifier tells {guide.classes} classes at "
                    f"{guide.image_size} px, its model draws {self.classes} at {self.config.image_size} px"
                )
            self.classes = guide.classes

    def stages(self, options: Options, jobs: Sequence[Job]) -> tuple[Stage, ...]:
        if options.guidance is not None and not self.guided:
            raise InputError(f"guidance needs a classifier, and {self.bundle.name} has none: leave it out")
        how = Denoising(self.networks, BASE, asked_sampling(self.bundle, BASE, options, options.guidance))
        repeating = how.repeating(options.steps)
        base = Classed(denoising=how, repeating=repeating, class_of=self.class_of, guided=self.guided)
        return (base, *self.chain.stages(options.size, self._upsampler))

    def _upsampler(self, name: str, at_once: int) -> Stage:
        how = Denoising(self.networks, name, default_sampling(self.bundle, name))
        return Classed(denoising=how, enlarges=True, at_once=at_once, class_of=self.class_of)

    def check(self, options: Options, jobs: Sequence[Job]) -> None:
        for prompt in dict.fromkeys(job.text for job in jobs):
            self.class_of(prompt)

    def class_of(self, prompt: str) -> int | None:
        """The class that a prompt names; None for `ANYTHING` where the model itself has no classes.

        Raises:
            InputError: it names none; the message says what there is.
        """
        text = " ".join(prompt.split()).casefold()
        if self.config.classes is None and text == ANYTHING:
            return None
        if self.classes is None:
            raise InputError(
                f"{self.bundle.name} has no classes and draws what it was trained on: ask for {ANYTHING!r}"
            )
        number = text.removeprefix("class").strip()
        if number.isdecimal() and int(number) < self.classes:
            return int(number)
        names: dict[str, int] = {}
        for i, label in enumerate(self.config.labels):
            names.setdefault(label.casefold(), i)
        for i, label in enumerate(self.config.labels):
            for synonym in label.split(","):
                names.setdefault(synonym.strip().casefold(), i)
        if text in names:
            return names[text]
        near = difflib.get_close_matches(text, names, n=3)
        hint = f", or {' or '.join(map(repr, near))}" if near else ""
        kinds = "a name or a number" if names else "a number (the bundle has no names of classes)"
        last = self.classes - 1
        raise InputError(
            f"no class {shown(prompt)}: give {kinds} from 0 to {last}, such as 'class {last}'{hint}"
        )
