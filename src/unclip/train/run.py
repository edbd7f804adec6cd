"""The run of a recipe: its stages one after the other, each in a folder of its own, up to the bundle.

A stage whose final weights lie there already is not trained again; a stage that was stopped goes on.
`start = "pictograms"` in a stage's table begins with that bundle's weights, or with those of a weight file;
`old_weights = 0.5` beside it makes the result the mean of those and of what training made of them.
Tokenizer, CLIP, codec and upsamplers may be those of a bundle: `bundle = "pictograms"` and no other setting.
"""

from __future__ import annotations

import importlib
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unclip import native
from unclip.bundle import Bundle, Part, Preprocessing, Shared, Styles, read_sampling, save_bundle
from unclip.config import Config, from_dict, to_dict
from unclip.data.corpus import Corpus
from unclip.data.records import Split
from unclip.data.styles import ANY_STYLE
from unclip.diffusion.schedule import DiffusionConfig
from unclip.errors import InputError
from unclip.models.clip import CLIP
from unclip.models.code_sampling import CodeSampling
from unclip.models.codec import CodecTraining
from unclip.runtime import atomic_path, check_writable, noise_seed
from unclip.tokenizer import TOKENIZER_FILE, BytePairTokenizer, Tokenizer
from unclip.train import card, loop, parallel, state
from unclip.train.config import LoopConfig
from unclip.train.starting import begin_

# The stages that train a network, in order: the file of `train/tasks/` whose `task_of(run, stage)` makes the
# task. Files and not functions: they import this one, and a stage loads no networks but its own.
TASKS = {
    "supervised": "supervised",
    "clip": "clip",
    "vqvae": "vqvae",
    "dalle1": "dalle1",
    "prior": "prior",
    "ar-prior": "ar_prior",
    "noised-clip": "noised_clip",
    "glide": "glide",
    "classifier": "classifier",
    "adm": "adm",
    "upsampler-256": "upsampler",
    "upsampler-1024": "upsampler",
    "layout": "layout",
    "decoder": "decoder",
}
STAGES = ("tokenizer", *TASKS, "bundle")
WRITES_CODES = ("dalle1", "ar-prior")  # stages whose sampling is that of codes
COMPONENTS = {"vqvae": "codec", "dalle1": "transformer"}  # what the stages' weights are called in a bundle
FITTED_ANEW = ("layout", "ar-prior")  # to the embeddings of the run's CLIP, which their weights come from
CAPTIONS_PER_PICTURE = 8  # that the tokenizer is made from


@dataclass(frozen=True)
class TokenizerStage:
    """The making of the tokenizer: byte-level BPE of so many ids over all captions of the training split."""

    vocabulary: int = 8192
    temperature: float = 1.0  # of the languages' shares, see `data.captions.caption`


class Run:
    """The stages of one recipe over one corpus, in one folder, and what their tasks are made from.

    Raises:
        InputError: the folder cannot be written into.
        DataError: there is no corpus.
    """

    def __init__(
        self,
        recipe: Mapping[str, Any],
        data: Path,
        out: Path,
        device: torch.device,
        stop: threading.Event | None = None,
    ) -> None:
        check_writable(out)
        self.recipe, self.out, self.device, self.stop = recipe, out, device, stop
        self.train = Corpus(data, Split.TRAIN)
        held_out = [Corpus(data, split) for split in (Split.UNSEEN_PAIRS, Split.UNSEEN_CONCEPTS)]
        # a small corpus may have held out nothing: figures are then those of pictures that were seen
        self.held_out = next((corpus for corpus in held_out if len(corpus)), self.train)

    def go(self, only: str | None = None) -> Path:
        """Train every stage of the recipe, or the one named `only`, and return the folder of the run."""
        named = [stage for stage in STAGES if stage in self.recipe]
        if only is not None and only not in named:
            raise InputError(f"unknown stage {only!r}: this recipe has {', '.join(named)}")
        for stage in named:  # a mistake in a late stage is said before an early one trains for hours
            if stage in TASKS and "train" in self.recipe[stage]:
                self.part(stage, "train", LoopConfig)
        for stage in named if only is None else [only]:
            if stage == "tokenizer":
                self.tokenizer()
            elif stage == "bundle":
                self.bundle()
            else:
                self.weights(stage)
        return self.out

    def part(self, stage: str, name: str, cls: type[Config], **fixed: Any) -> Config:
        """One table of a stage as its config."""
        return from_dict(cls, {**self.recipe[stage].get(name, {}), **fixed}, f"{stage}.{name}")

    def task(self, stage: str) -> loop.Task:
        """The task of a stage, with everything that it needs of the stages before it.

        The first weights of its model are a function of the stage and its `train.seed` alone.
        """
        start = self.recipe[stage].get("start")
        if start is not None and stage in FITTED_ANEW:
            raise InputError(f"{stage}.start: {stage} cannot begin with other weights, leave it out")
        module = importlib.import_module(f"unclip.train.tasks.{TASKS[stage]}")
        seed = self.part(stage, "train", LoopConfig).seed
        with torch.random.fork_rng(devices=[]):  # modules draw their weights from torch's own random state
            torch.default_generator.manual_seed(noise_seed(seed, 0, f"train/weights/{stage}"))
            task: loop.Task = module.task_of(self, stage)
            # a decoder can begin with another kind, and so does it itself
            if start is not None and stage != "decoder":
                begin_(task.model, COMPONENTS.get(stage, stage), str(start), f"{stage}.start: {start}")
        return task

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the run, trained if it is not there yet."""
        if (shared := self._shared("tokenizer")) is not None:
            return shared.tokenizer()
        path = self.out / TOKENIZER_FILE
        if not path.exists():
            settings = from_dict(TokenizerStage, self.recipe["tokenizer"], "tokenizer")
            with atomic_path(path) as temporary:
                BytePairTokenizer.train(self._captions(settings.temperature), settings.vocabulary).save(
                    temporary
                )
        return BytePairTokenizer.load(path)

    def _captions(self, temperature: float) -> Iterator[str]:
        """Several captions of every picture, with the languages and styles of training."""
        choice = random.Random(0)
        for index in range(len(self.train)):
            for _ in range(CAPTIONS_PER_PICTURE):
                yield self.train.caption(index, choice, temperature=temperature)

    def model(self, stage: str) -> nn.Module:
        """The trained model of a stage, in float32 on the CPU; of a codec what draws, without its critic."""
        model = native.load_model(self.weights(stage), dtype=torch.float32)
        return model.codec if isinstance(model, CodecTraining) else model

    def weights(self, stage: str) -> Path:
        """The weight file of a stage, trained if it is not there yet for as long as the recipe says."""
        if (shared := self._shared(stage)) is not None:
            shared.verify()
            return shared.path(COMPONENTS.get(stage, stage))
        config, share = self.part(stage, "train", LoopConfig), self.recipe[stage].get("old_weights", 0)
        if share and not ("start" in self.recipe[stage] and 0 < share < 1):
            raise InputError(
                f"{stage}.old_weights: got {share}, allowed is a share between 0 and 1, of the weights of "
                f"{stage}.start"
            )
        average = str(self.recipe[stage].get("weights", "ema-0" if config.ema else "raw"))
        path = self.out / stage / state.FINAL / f"{average}.safetensors"
        newest = state.newest_step(self.out / stage)
        if not path.exists() or (newest is not None and newest < config.steps):
            loop.train(self.task(stage), config, self.out / stage, device=self.device, stop=self.stop)
        return self._mixed(stage, path, share) if share else path

    def _mixed(self, stage: str, path: Path, old: float) -> Path:
        """The weight file of a stage's mean of what it began with, at the share `old`, and the file `path`.

        Fine-tuned weights and those before draw better together than alone (2109.01903). Of several processes
        one writes it, the others wait.
        """
        mixed = path.with_name(f"{path.stem}-old-weights-{old}.safetensors")
        world = parallel.join(self.device)
        if world.writes and not (mixed.exists() and mixed.stat().st_mtime >= path.stat().st_mtime):
            model = native.load_model(path, dtype=torch.float32)
            began = self.task(stage).model.state_dict()
            weights = {
                name: torch.lerp(weight, began[name].to(weight), old)
                if weight.is_floating_point()
                else weight
                for name, weight in model.state_dict().items()
            }
            native.save_model(mixed, model, state=weights, details={"old_weights": old})
        world.barrier()
        return mixed

    def _shared(self, stage: str) -> Bundle | None:
        """The bundle whose tokenizer or weights serve as this stage's; None where the stage is trained."""
        source = self.recipe[stage].get("bundle")
        if source is None:
            return None
        if len(self.recipe[stage]) > 1:
            others = ", ".join(sorted(set(self.recipe[stage]) - {"bundle"}))
            raise InputError(f"{stage}: bundle = {source!r} says all of it, so leave out {others}")
        return Bundle.load(source)

    def bundle(self) -> Path:
        """The bundle of what was trained, with its model card, in the folder `bundle` of the run.

        Of several processes one writes it, the others wait.
        """
        folder, world = self.out / "bundle", parallel.join(self.device)
        if world.writes:
            self._write_bundle(folder)
        world.barrier()
        return folder

    def _write_bundle(self, folder: Path) -> None:
        table = self.recipe["bundle"]
        licence, data = str(table["licence"]), str(table["data"])
        shares = bool(table.get("shares"))  # refer to what other bundles have, and copy nothing of it
        parts = {}
        if "tokenizer" in self.recipe:
            parts["tokenizer"] = Part(self.tokenizer(), licence=licence, data=data)
            if shares and (shared := self._shared("tokenizer")) is not None:
                parts["tokenizer"] = Part(Shared(shared, "tokenizer"))
        sizes = {}
        for stage in (stage for stage in TASKS if stage in self.recipe):
            name = COMPONENTS.get(stage, stage)
            if (shared := self._shared(stage)) is not None:
                parts[name] = Part(Shared(shared, name)) if shares else shared.part(name)
                continue
            model = self.model(stage)
            sizes[stage] = sum(parameter.numel() for parameter in model.parameters())
            if stage == "layout":
                continue  # its weights are in the decoder
            diffuses, given = "diffusion" in self.recipe[stage], self.recipe[stage].get("sampling", {})
            kind, config = native.kind_of(model), to_dict(model.config)
            parts[name] = Part(
                model,
                diffusion=self.part(stage, "diffusion", DiffusionConfig) if diffuses else None,
                sampling=read_sampling(kind, config, given, f"{stage}.sampling") if diffuses else None,
                codes=self.part(stage, "sampling", CodeSampling) if stage in WRITES_CODES else None,
                preprocessing=Preprocessing(model.config.image.image_size)
                if isinstance(model, CLIP)
                else None,
                licence=licence,
                data=data,
            )
        text = card.write(self.recipe, self.train, self.out, sizes, self.device)
        save_bundle(
            folder,
            name=str(table["name"]),
            parts=parts,
            card=text,
            family=str(self.recipe["family"]),
            licence=licence,
            data=data,
            styles=self._styles(table),
            languages=table.get("languages", ()),
        )

    def _styles(self, table: Mapping[str, Any]) -> Styles:
        """The styles of the corpus; those of the recipe's `styles` that it has are the clear ones."""
        known = Counter(style for style in self.train.column("style") if style not in ("", ANY_STYLE))
        ordered = tuple(sorted(known, key=lambda style: (-known[style], style)))
        return Styles(ordered, tuple(style for style in table.get("styles", ()) if style in known))
