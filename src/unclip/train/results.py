"""The stages of a recipe over a corpus, in the folder of a run: their settings, tasks and results.

A result that is not there yet is trained when it is asked for. `start = "pictograms"` in a stage's table
begins with that bundle's weights, or with those of a weight file; `old_weights = 0.5` beside it makes the
result the mean of those and of what training made of them. Tokenizer, CLIP, codec and upsamplers may be those
of a bundle: `bundle = "pictograms"` and no other setting.
"""

from __future__ import annotations

import contextlib
import importlib
import random
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from unclip import native
from unclip.bundle import Bundle
from unclip.config import Config, from_dict, to_dict
from unclip.data.records import Split
from unclip.data.store import Cache
from unclip.data.streamed import opened
from unclip.errors import InputError
from unclip.models.codec import CodecTraining
from unclip.runtime import atomic_path, check_writable, noise_seed, sha256
from unclip.tokenizer import TOKENIZER_FILE, BytePairTokenizer, Tokenizer
from unclip.train import loop, parallel, record, state
from unclip.train.best import BEST
from unclip.train.config import LoopConfig
from unclip.train.record import Record
from unclip.train.settings import Settings, completed
from unclip.train.stages import COMPONENTS, FITTED_ANEW, NEEDS, STAGES, TASKS, TOKENIZER, TokenizerStage
from unclip.train.starting import begin_

CAPTIONS_PER_PICTURE = 8  # that the tokenizer is made from


class Ids(NamedTuple):
    """The ids of a tokenizer: how many there are, and the one that ends a text."""

    vocabulary: int
    end: int


class Results:
    """The stages of one recipe over one corpus, in one folder, and what their tasks are made from.

    Args:
        recipe: as `recipes.load` gives it.
        data: folder of the corpus, or its address ("s3://bucket/corpus").
        out: folder of the run.
        device: to train on.
        stop: when it is set the run ends after the step in hand.
        command: as it was typed, for the model card and for messages; empty in Python.
        cache: of what is fetched from an address.

    Raises:
        InputError: the folder cannot be written into.
        DataError: there is no corpus.
    """

    def __init__(
        self,
        recipe: Mapping[str, Any],
        data: Path | str,
        out: Path,
        device: torch.device,
        stop: threading.Event | None = None,
        command: str = "",
        cache: Cache | None = None,
    ) -> None:
        check_writable(out)
        self.recipe, self.out, self.device, self.stop, self.command = recipe, out, device, stop, command
        self.train = opened(data, Split.TRAIN, cache)
        held_out = [self.train.of(split) for split in (Split.UNSEEN_PAIRS, Split.UNSEEN_CONCEPTS)]
        # a small corpus may have held out nothing: figures are then those of pictures that were seen
        self.held_out = next((corpus for corpus in held_out if len(corpus)), self.train)
        self.unseen_concepts = held_out[1] if self.held_out is held_out[0] else None
        self._bundles: dict[str, Bundle] = {}

    @cached_property
    def named(self) -> list[str]:
        """The stages of the recipe, in order."""
        return [stage for stage in STAGES if stage in self.recipe]

    @property
    def trained(self) -> list[str]:
        """Those of them that train a network."""
        return [stage for stage in self.named if stage in TASKS and "bundle" not in self.recipe[stage]]

    def files(self, stage: str) -> list[Path]:
        """All that a stage leaves in the folder of the run."""
        if stage == TOKENIZER:
            return [self.out / TOKENIZER_FILE, self.record_path(stage)]
        return [self.out / stage]

    def record_path(self, stage: str) -> Path:
        """The file that says what a stage was trained on."""
        return self.out / (f"{TOKENIZER}-{record.NAME}" if stage == TOKENIZER else f"{stage}/{record.NAME}")

    @property
    def processes(self) -> int:
        """The number of processes that train together."""
        return parallel.join(self.device).size

    @property
    def writes(self) -> bool:
        """True in the one process that writes the run's files."""
        return parallel.join(self.device).writes

    def part(self, stage: str, name: str, cls: type[Config], **following: Any) -> Config:
        """One table of a stage as its config, with values that follow from other stages."""
        where = f"{stage}.{name}"
        return from_dict(cls, completed(self.recipe[stage].get(name, {}), following, where), where)

    def needs(self, stage: str) -> list[str]:
        """The stages of the recipe whose results a stage is trained on, in order."""
        needs, task = NEEDS.get(stage, ()), self.recipe[stage].get("task", {})
        if stage == "vqvae" and isinstance(task, Mapping) and task.get("perceptual"):
            needs = ("clip",)
        return [need for need in needs if need in self.recipe]

    def settings(self, stage: str) -> Settings:
        """The settings of a stage that trains a network, as far as they are known before any is trained."""
        settings: Settings = self._module(stage).settings_of(self, stage)
        return settings

    def config(self, stage: str, asks: str) -> Any:
        """The config of the model that a stage ends with; of a codec without its critic.

        Raises InputError where the recipe has no such stage, which the stage `asks` is trained on.
        """
        if stage not in self.recipe:
            raise InputError(f"{asks} is trained on the result of a stage {stage}, and the recipe has none")
        if (shared := self.shared(stage)) is not None:
            return shared.config(COMPONENTS.get(stage, stage))
        model = self.settings(stage).model
        return model.codec if stage == "vqvae" else model

    def ids(self) -> Ids:
        """The ids of the run's tokenizer; of one that is not there yet as many as the recipe asks for."""
        if TOKENIZER not in self.recipe:
            raise InputError("captions are read by a tokenizer, and the recipe has none: give it [tokenizer]")
        if (shared := self.shared(TOKENIZER)) is not None:
            tokenizer = shared.tokenizer()
        elif (path := self.out / TOKENIZER_FILE).exists():
            tokenizer = BytePairTokenizer.load(path)
        else:
            settings = from_dict(TokenizerStage, self.recipe[TOKENIZER], TOKENIZER)
            return Ids(settings.vocabulary, BytePairTokenizer.end)
        return Ids(tokenizer.vocabulary, tokenizer.end)

    def start(self, stage: str) -> str | None:
        """The bundle or weight file that a stage begins with, if it does not begin anew."""
        start = self.recipe[stage].get("start")
        if start is not None and stage in FITTED_ANEW:
            raise InputError(f"{stage}.start: {stage} cannot begin with other weights, leave it out")
        return None if start is None else str(start)

    def share_of_old(self, stage: str) -> float:
        """The share of the weights that a stage begins with in its result."""
        share = self.recipe[stage].get("old_weights", 0)
        if share and not ("start" in self.recipe[stage] and 0 < share < 1):
            raise InputError(
                f"{stage}.old_weights: got {share}, allowed is a share between 0 and 1, of the weights of "
                f"{stage}.start"
            )
        return float(share)

    def _module(self, stage: str) -> ModuleType:
        return importlib.import_module(f"unclip.train.tasks.{TASKS[stage]}")

    def task(self, stage: str) -> loop.Task:
        """The task of a stage, with everything that it needs of the stages before it.

        The first weights of its model are a function of the stage and its `train.seed` alone.
        """
        start = self.start(stage)
        seed = self.part(stage, "train", LoopConfig).seed
        with torch.random.fork_rng(devices=[]):  # modules draw their weights from torch's own random state
            torch.default_generator.manual_seed(noise_seed(seed, 0, f"train/weights/{stage}"))
            task: loop.Task = self._module(stage).task_of(self, stage)
            # a decoder can begin with another kind, and so does it itself
            if start is not None and stage != "decoder":
                begin_(task.model, COMPONENTS.get(stage, stage), start, f"{stage}.start: {start}")
        return task

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the run, trained if it is not there yet."""
        if (shared := self.shared(TOKENIZER)) is not None:
            return shared.tokenizer()
        path = self.out / TOKENIZER_FILE
        if not path.exists():
            settings = from_dict(TokenizerStage, self.recipe[TOKENIZER], TOKENIZER)
            made = BytePairTokenizer.train(self._captions(settings.temperature), settings.vocabulary)
            record.write(self.record_path(TOKENIZER), self.record(TOKENIZER))
            with state.writing(self.out, path.name), atomic_path(path) as temporary:
                made.save(temporary)
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

    def result(self, stage: str) -> Path:
        """The file that a stage ends with, be it there or not."""
        if (shared := self.shared(stage)) is not None:
            return shared.path(COMPONENTS.get(stage, stage))
        if stage == TOKENIZER:
            return self.out / TOKENIZER_FILE
        path, share = self._average(stage), self.share_of_old(stage)
        return path.with_name(f"{path.stem}-old-weights-{share}.safetensors") if share else path

    def _average(self, stage: str) -> Path:
        """The file of the average of weights, of the best or of the plain ones, that the recipe wants."""
        config = self.part(stage, "train", LoopConfig)
        usual = BEST if config.best else "ema-0" if config.ema else "raw"
        average = str(self.recipe[stage].get("weights") or usual)
        return self.out / stage / state.FINAL / f"{average}.safetensors"

    def weights(self, stage: str) -> Path:
        """The weight file of a stage, trained if it is not there yet for as long as the recipe says."""
        if (shared := self.shared(stage)) is not None:
            shared.verify()
            return self.result(stage)
        config, share, path = (
            self.part(stage, "train", LoopConfig),
            self.share_of_old(stage),
            self._average(stage),
        )
        newest = state.newest_step(self.out / stage)
        if not path.exists() or (newest is not None and newest < config.steps):
            task = self.task(stage)
            told = self.record_path(stage)
            # a record of what was begun before there were records would claim what nobody knows
            if self.writes and (newest is None or told.exists()):
                record.write(told, self.record(stage))
            loop.train(task, config, self.out / stage, device=self.device, stop=self.stop)
        if share:
            self._mix(stage, path, self.result(stage), share)
        return self.result(stage)

    def _mix(self, stage: str, path: Path, mixed: Path, old: float) -> None:
        """Writes the mean of what a stage began with, at the share `old`, and of the weights in `path`.

        Fine-tuned weights and those before draw better together than alone (2109.01903). Of several processes
        one writes it, the others wait.
        """
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
            with state.writing(self.out / stage, mixed.name):
                native.save_model(mixed, model, state=weights, details={"old_weights": old})
        world.barrier()

    def shared(self, stage: str) -> Bundle | None:
        """The bundle whose tokenizer or weights serve as this stage's; None where the stage is trained."""
        source = self.recipe[stage].get("bundle")
        if source is None:
            return None
        if len(self.recipe[stage]) > 1:
            others = ", ".join(sorted(set(self.recipe[stage]) - {"bundle"}))
            raise InputError(f"{stage}: bundle = {source!r} says all of it, so leave out {others}")
        if not isinstance(source, str):
            raise InputError(f"{stage}.bundle: got {source!r}, expected a bundle's name or folder")
        if source not in self._bundles:
            self._bundles[source] = Bundle.load(source)
        return self._bundles[source]

    def record(self, stage: str) -> Record:
        """The record of a stage as it would be trained now; the stages before it are there."""
        if stage == TOKENIZER:
            settings = {TOKENIZER: to_dict(from_dict(TokenizerStage, self.recipe[stage], stage))}
        else:
            found = self.settings(stage)
            settings = record.tables(found, self.part(stage, "train", LoopConfig))
            if (teacher := getattr(found.task, "teacher", None)) is not None:
                settings["teacher"] = {"words": sha256(self.train.file(teacher.file))}
        return Record(
            corpus=self.train.fingerprint,
            parts={need: self.digest(need) for need in self.needs(stage)},
            start="" if stage == TOKENIZER else self._identity(self.start(stage)),
            settings=settings,
            commands=[self.command] if self.command else [],
        )

    def digest(self, stage: str) -> str:
        """The SHA-256 of a stage's result; empty where it is not there yet."""
        if (shared := self.shared(stage)) is not None:
            return shared.component(COMPONENTS.get(stage, stage)).sha256
        path = self.result(stage)
        return sha256(path) if path.exists() else ""

    def _identity(self, start: str | None) -> str:
        """The identity of the weights that a stage begins with: it differs for others of the same name."""
        if start is None:
            return ""
        if start.endswith(".safetensors"):
            return f"{Path(start).name} {sha256(start)[:12]}"
        bundle = Bundle.load(start)
        return f"{bundle.name} {bundle.identity}"

    @cached_property
    def corpus_digits(self) -> str:
        """The first digits of the corpus's fingerprint."""
        return self.train.fingerprint[:12]

    def cached(self, name: str, rows: int) -> Path:
        """The file for what is computed once for the pictures of the run's corpus, `rows` of them.

        Runs of before called it without the corpus; what they have is taken where it has as many rows.
        """
        path, older = self.out / f"{name}-{self.corpus_digits}.npy", self.out / f"{name}.npy"
        with contextlib.suppress(OSError, ValueError):
            if not path.exists() and len(np.load(older, mmap_mode="r")) == rows:
                return older
        return path
