"""Runs the stages of a recipe one after the other, each in a folder of its own, and writes the bundle.

A stage whose final weights lie there already is not trained again; a stage that was stopped goes on.
`start = "pictograms"` in a stage's table begins with that bundle's weights, or with those of a weight file;
`keep = 0.5` beside it makes the result the mean of those and of what training made of them.
Tokenizer, CLIP, codec and upsamplers may be those of a bundle: `bundle = "pictograms"` and no other setting.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from unclip import native
from unclip.bundle import Bundle, Part, Preprocessing, Shared, read_sampling, save_bundle
from unclip.config import Config, from_dict, to_dict
from unclip.data.classes import Classes
from unclip.data.corpus import EVERYTHING, Corpus
from unclip.data.records import Split
from unclip.diffusion.schedule import DiffusionConfig
from unclip.errors import InputError
from unclip.images import from_uint8
from unclip.models.ar_prior import ArPriorConfig
from unclip.models.clip import CLIP, CLIPConfig
from unclip.models.code_sampling import CodeSampling
from unclip.models.codec import CodecTraining, CodecTrainingConfig
from unclip.models.dalle1 import Dalle1Config
from unclip.models.decoder import DecoderConfig
from unclip.models.embedding_codes import PrincipalComponents
from unclip.models.layout import Layout, LayoutConfig
from unclip.models.prior import PriorConfig
from unclip.models.supervised import SupervisedConfig
from unclip.models.upsampler import UpsamplerConfig
from unclip.models.vqgan import VQGAN
from unclip.models.vqvae import VQVAE
from unclip.runtime import atomic_path, autocast, check_writable, pick_precision, sha256
from unclip.tokenizer import BytePairTokenizer, Tokenizer
from unclip.train import ancestors, card, loop, parallel, state
from unclip.train.augmentation import LABELS
from unclip.train.config import LoopConfig
from unclip.train.pictures import HeldOut, shifted
from unclip.train.starting import begin, finished, take_weights
from unclip.train.tasks.ar_prior import ArPriorTask, ArPriorTaskConfig
from unclip.train.tasks.clip import CLIPTask, CLIPTaskConfig, LockedCLIPTask, Splits
from unclip.train.tasks.dalle1 import Coded, Dalle1Task, Dalle1TaskConfig
from unclip.train.tasks.decoder import DecoderTask, DecoderTaskConfig
from unclip.train.tasks.diffusion import Encoded
from unclip.train.tasks.layout import LayoutTask, LayoutTaskConfig
from unclip.train.tasks.prior import PriorTask, PriorTaskConfig
from unclip.train.tasks.supervised import SupervisedTask, SupervisedTaskConfig
from unclip.train.tasks.upsampler import LargePictures, UpsamplerTask, UpsamplerTaskConfig
from unclip.train.tasks.vqvae import VQVAETask, VQVAETaskConfig

STAGES = (
    *("supervised", "tokenizer", "clip", "vqvae", "dalle1", "prior", "ar-prior"),
    *ancestors.TASKS,
    *("upsampler-256", "upsampler-1024", "layout", "decoder", "bundle"),
)
WRITES_CODES = ("dalle1", "ar-prior")  # stages whose sampling is that of codes
COMPONENTS = {"vqvae": "codec", "dalle1": "transformer"}  # what the stages' weights are called in a bundle
FITTED_ANEW = ("layout", "ar-prior")  # to the embeddings of the run's CLIP, which their weights come from
NO_WEIGHTS = ("tokenizer", "bundle")
ENCODE_BATCH = 64
EMBED_BATCH = 256
CAPTIONS_PER_PICTURE = 8  # that the tokenizer is made from
STORED_SIZE = 256  # of a corpus's pictures; beyond it only the large renderings serve


@dataclasses.dataclass(frozen=True)
class TokenizerStage:
    """How the tokenizer is made: byte-level BPE of so many ids over all captions of the training split."""

    vocabulary: int = 8192


class Sequence:
    """The stages of one recipe over one corpus, in one folder.

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

    def run(self, only: str | None = None) -> Path:
        """Train every stage of the recipe, or the one named `only`, and return the folder of the run."""
        named = [stage for stage in STAGES if stage in self.recipe]
        if only is not None and only not in named:
            raise InputError(f"unknown stage {only!r}: this recipe has {', '.join(named)}")
        for stage in named if only is None else [only]:
            if stage == "tokenizer":
                self.tokenizer()
            elif stage == "bundle":
                self.bundle()
            else:
                self.weights(stage)
        return self.out

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the run, trained if it is not there yet."""
        if (shared := self.shared("tokenizer")) is not None:
            return shared.tokenizer()
        path = self.out / "tokenizer.json"
        if not path.exists():
            settings = from_dict(TokenizerStage, self.recipe["tokenizer"], "tokenizer")
            with atomic_path(path) as temporary:
                BytePairTokenizer.train(self.captions(), settings.vocabulary).save(temporary)
        return BytePairTokenizer.load(path)

    def captions(self) -> Iterator[str]:
        """Several captions of every picture, with the languages and styles of training."""
        choice = random.Random(0)
        for index in range(len(self.train)):
            for _ in range(CAPTIONS_PER_PICTURE):
                yield self.train.caption(index, choice)

    def weights(self, stage: str) -> Path:
        """The weight file of a stage, trained if it is not there yet for as long as the recipe says."""
        if (shared := self.shared(stage)) is not None:
            shared.verify()
            return shared.path(COMPONENTS.get(stage, stage))
        config, keep = self.part(stage, "train", LoopConfig), self.recipe[stage].get("keep", 0)
        if keep and not ("start" in self.recipe[stage] and 0 < keep < 1):
            raise InputError(
                f"{stage}.keep: got {keep}, allowed is a share between 0 and 1, of the weights of "
                f"{stage}.start"
            )
        average = str(self.recipe[stage].get("weights", "ema-0" if config.ema else "raw"))
        path = self.out / stage / state.FINAL / f"{average}.safetensors"
        if not path.exists() or self.unfinished(stage, config):
            loop.train(self.task(stage), config, self.out / stage, device=self.device, stop=self.stop)
        return self._mixed(stage, path, keep) if keep else path

    def _mixed(self, stage: str, path: Path, keep: float) -> Path:
        """The weight file of a stage's mean of what it began with, at the share `keep`, and the file `path`.

        Fine-tuned weights and those before draw better together than alone (2109.01903). Of several processes
        one writes it, the others wait.
        """
        mixed, world = path.with_name(f"{path.stem}-keep-{keep}.safetensors"), parallel.join(self.device)
        if world.writes and not (mixed.exists() and mixed.stat().st_mtime >= path.stat().st_mtime):
            model = native.load_model(path, dtype=torch.float32)
            began = self.task(stage).model.state_dict()
            weights = {
                name: torch.lerp(weight, began[name].to(weight), keep)
                if weight.is_floating_point()
                else weight
                for name, weight in model.state_dict().items()
            }
            native.save_model(mixed, model, state=weights, details={"keep": keep})
        world.barrier()
        return mixed

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
            if shares and (shared := self.shared("tokenizer")) is not None:
                parts["tokenizer"] = Part(Shared(shared, "tokenizer"))
        sizes = {}
        for stage in (stage for stage in STAGES if stage in self.recipe and stage not in NO_WEIGHTS):
            name = COMPONENTS.get(stage, stage)
            if (shared := self.shared(stage)) is not None:
                component = shared.component(name)
                parts[name] = Part(
                    Shared(shared, name) if shares else shared.model(name),
                    diffusion=component.diffusion,
                    sampling=component.sampling,
                    codes=component.codes,
                    preprocessing=component.preprocessing,
                    licence=component.licence,
                    data=component.data,
                )
                continue
            model = trained(self.weights(stage))
            sizes[stage] = sum(parameter.numel() for parameter in model.parameters())
            if isinstance(model, Layout):
                continue  # its weights are in the decoder
            diffuses = "diffusion" in self.recipe[stage]
            kind, config = native.kind_of(model), to_dict(model.config)
            given, where = self.recipe[stage].get("sampling", {}), f"{stage}.sampling"
            parts[name] = Part(
                model,
                diffusion=self.part(stage, "diffusion", DiffusionConfig) if diffuses else None,
                sampling=read_sampling(kind, config, given, where) if diffuses else None,
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
        )

    def shared(self, stage: str) -> Bundle | None:
        """The bundle whose tokenizer or weights serve as this stage's; None where the stage is trained."""
        source = self.recipe[stage].get("bundle")
        if source is None:
            return None
        if len(self.recipe[stage]) > 1:
            others = ", ".join(sorted(set(self.recipe[stage]) - {"bundle"}))
            raise InputError(f"{stage}: bundle = {source!r} says all of it, so leave out {others}")
        return Bundle.load(source)

    def unfinished(self, stage: str, config: LoopConfig) -> bool:
        """Whether the recipe now asks for more steps than the stage was trained for."""
        newest = state.newest_step(self.out / stage)
        return newest is not None and newest < config.steps

    def part(self, stage: str, name: str, cls: type[Config], **fixed: Any) -> Config:
        """One table of a stage as its config."""
        return from_dict(cls, {**self.recipe[stage].get(name, {}), **fixed}, f"{stage}.{name}")

    def task(self, stage: str) -> loop.Task:
        """The task of a stage, with everything that it needs of the stages before it."""
        task = self.new_task(stage)
        start = self.recipe[stage].get("start")
        # a decoder can begin with another kind, and so does it itself
        if start is not None and stage != "decoder":
            if stage in FITTED_ANEW:
                raise InputError(f"{stage}.start: {stage} cannot begin with other weights, leave it out")
            begin(task.model, COMPONENTS.get(stage, stage), str(start), f"{stage}.start: {start}")
        return task

    def new_task(self, stage: str) -> loop.Task:
        """The task of a stage, its model as it begins anew."""
        if stage == "supervised":
            return self.supervised_task()
        if stage in ancestors.TASKS:
            return ancestors.TASKS[stage](self)
        if stage == "clip":
            return self.clip_task()
        if stage == "vqvae":
            return self.vqvae_task()
        if stage == "dalle1":
            return self.dalle1_task()
        if stage.startswith("upsampler-"):
            model = self.part(stage, "model", UpsamplerConfig)
            large = model.high_size > STORED_SIZE
            pictures = LargePictures(self.train) if large else self.train.pixels(model.high_size)
            return UpsamplerTask(
                model,
                self.part(stage, "task", UpsamplerTaskConfig),
                self.part(stage, "diffusion", DiffusionConfig),
                pictures,
            )
        encoded, tokenizer = self.encoded(), self.tokenizer()
        shared = {"embedding": encoded.clip.config.embedding, "text_width": encoded.clip.config.text.width}
        if stage == "layout":
            layout_task = self.part(stage, "task", LayoutTaskConfig)
            return LayoutTask(self.layout_config(encoded.clip), layout_task, encoded, tokenizer, self.train)
        if stage == "ar-prior":
            ar_task = self.part(stage, "task", ArPriorTaskConfig)
            components = PrincipalComponents.of(encoded.embeddings)
            count = components.count(ar_task.variance)
            ar_prior = self.part(stage, "model", ArPriorConfig, **shared, components=count)
            return ArPriorTask(ar_prior, ar_task, components, encoded, tokenizer, self.train)
        diffusion = self.part(stage, "diffusion", DiffusionConfig)
        if stage == "prior":
            prior = self.part(stage, "model", PriorConfig, **shared)
            prior_task = self.part(stage, "task", PriorTaskConfig)
            return PriorTask(prior, prior_task, diffusion, encoded, tokenizer, self.train)
        task = self.part(stage, "task", DecoderTaskConfig)
        settings = self.decoder_settings(encoded.clip, diffusion, task)
        decoder = self.part(stage, "model", DecoderConfig, **settings)
        layout = None
        if "layout" in self.recipe:
            layout = native.load_model(self.weights("layout"), dtype=torch.float32)
        assert layout is None or isinstance(layout, Layout)
        start = self.recipe["decoder"].get("start")
        return DecoderTask(decoder, task, diffusion, encoded, tokenizer, self.train, layout, start)

    def layout_config(self, clip: CLIP) -> LayoutConfig:
        return self.part("layout", "model", LayoutConfig, embedding=clip.config.embedding)

    def decoder_settings(
        self, clip: CLIP, diffusion: DiffusionConfig, task: DecoderTaskConfig
    ) -> dict[str, Any]:
        """What of a decoder's config follows from the rest of the recipe, CLIP, and what it starts from."""
        settings: dict[str, Any] = {
            "embedding": clip.config.embedding,
            "learned_range": diffusion.learned_range,
        }
        if task.augment:
            settings["augmentation"] = LABELS
        if "layout" in self.recipe:
            settings["layout"] = to_dict(self.layout_config(clip))
        start = self.recipe["decoder"].get("start")
        if start is not None:
            said = self.recipe["decoder"].get("model", {})
            own = to_dict(finished(start, "decoder").config)
            return {name: value for name, value in own.items() if name not in said} | settings
        caption = self.recipe["decoder"]["model"].get("caption")
        if caption is None:
            return {**settings, "text_width": clip.config.text.width}
        return {**settings, "caption": {**caption, "vocabulary": self.tokenizer().vocabulary}}

    def clip_task(self) -> CLIPTask:
        tokenizer = self.tokenizer()
        table = dict(self.recipe["clip"]["model"])
        table["text"] = {**table["text"], "vocabulary": tokenizer.vocabulary}
        model = from_dict(CLIPConfig, {**table, "end_token": tokenizer.end}, "clip.model")
        task = self.part("clip", "task", CLIPTaskConfig)
        everything = task.splits is Splits.ALL
        corpus = Corpus(self.train.folder, EVERYTHING) if everything else self.train
        if not task.locked:
            return CLIPTask(model, task, tokenizer, corpus, self.held_out)
        if (start := self.recipe["clip"].get("start")) is None:
            raise InputError(
                "clip.task.locked: a locked image encoder needs clip.start, which it begins with"
            )
        clip = CLIP(model)
        take_weights(clip, finished(start, "clip"), f"clip.start: {start}")
        return LockedCLIPTask(clip, self.embeddings(clip, corpus), task, tokenizer, corpus, self.held_out)

    def supervised_task(self) -> SupervisedTask:
        task = self.part("supervised", "task", SupervisedTaskConfig)
        classes = Classes.drawn_in(self.train, task.styles)
        model = self.part("supervised", "model", SupervisedConfig, labels=classes.labels)
        return SupervisedTask(model, task, classes, self.train, self.held_out)

    def vqvae_task(self) -> VQVAETask:
        task = self.part("vqvae", "task", VQVAETaskConfig)
        clip: torch.nn.Module | None = None
        if task.perceptual and "clip" in self.recipe:
            clip = native.load_model(self.weights("clip"), dtype=torch.float32, device=self.device)
        assert clip is None or isinstance(clip, CLIP)
        model = self.part("vqvae", "model", CodecTrainingConfig)
        return VQVAETask(model, task, self.train, self.held_out, clip)

    def dalle1_task(self) -> Dalle1Task:
        tokenizer = self.tokenizer()
        path = self.weights("vqvae")
        codec = trained(path, dtype=torch.float32, device=self.device)
        assert isinstance(codec, VQGAN | VQVAE)
        sizes = {"text_vocabulary": tokenizer.vocabulary, "vocabulary": codec.config.vocabulary}
        model = self.part("dalle1", "model", Dalle1Config, **sizes)
        task = self.part("dalle1", "task", Dalle1TaskConfig)
        side = model.grid * codec.config.factor
        held_out = HeldOut(self.held_out, tokenizer, model.text_context, side)
        coded = Coded(
            codec,
            self.codes(codec, f"codes-{side}-{sha256(path)[:12]}", side, task),
            held_out,
            encode(codec, held_out.pixels, self.device).long(),
        )
        return Dalle1Task(model, task, coded, tokenizer, self.train)

    def codes(self, codec: VQGAN | VQVAE, name: str, side: int, task: Dalle1TaskConfig) -> torch.Tensor:
        """(N, copies, codes) of the pictures of the training split, each copy computed once.

        Several processes share the copies out among themselves.
        """
        files = [self.out / f"{name}.npy"]
        files += [self.out / f"{name}-shift-{task.shift}-{copy}.npy" for copy in range(1, task.copies)]
        world = parallel.join(self.device)
        for copy, file in enumerate(files):
            if copy % world.size == world.rank and not file.exists():
                shift = task.shift if copy else 0
                with atomic_path(file) as temporary:
                    np.save(
                        temporary,
                        encode(codec, self.train.pixels(side), self.device, shift, seed=copy).numpy(),
                    )
        world.barrier()
        return torch.from_numpy(np.stack([np.load(file) for file in files], axis=1))

    def encoded(self) -> Encoded:
        """The run's CLIP, with the embedding of every picture (computed once and kept)."""
        path = self.weights("clip")
        clip = native.load_model(path, dtype=torch.float32)
        assert isinstance(clip, CLIP)
        clip = clip.to(self.device).eval()
        held_out = HeldOut(
            self.held_out, self.tokenizer(), clip.config.text.context, clip.config.image.image_size
        )
        embeddings = self.embeddings(clip, self.train)
        held_out_embeddings = self.embed(clip, held_out.pixels).to(self.device)
        return Encoded(clip, embeddings, held_out, held_out_embeddings)

    def embeddings(self, clip: CLIP, corpus: Corpus) -> torch.Tensor:
        """(N, E) L2-normalised embeddings of a corpus's pictures, computed once for an image encoder."""
        file = self.out / f"embeddings-{corpus.split}-{fingerprint(clip.visual)}.npy"
        if not file.exists():
            clip = clip.to(self.device).eval()
            with atomic_path(file) as temporary:
                np.save(
                    temporary, self.embed(clip, corpus.pixels(clip.config.image.image_size)).cpu().numpy()
                )
        return torch.from_numpy(np.load(file))

    @torch.no_grad()
    def embed(self, clip: CLIP, pixels: np.ndarray) -> torch.Tensor:
        """(N, S, S, 3) uint8 -> (N, E) L2-normalised embeddings."""
        parts = []
        for start in range(0, len(pixels), EMBED_BATCH):
            images = from_uint8(pixels[start : start + EMBED_BATCH]).to(self.device)
            with autocast(self.device, pick_precision(self.device)):
                embedding = clip.encode_image(images)
            parts.append(F.normalize(embedding.float(), dim=1))
        return torch.cat(parts)  # (N, E)


def fingerprint(module: torch.nn.Module) -> str:
    """12 hex digits that tell apart weights."""
    digest = hashlib.sha256()
    for tensor in module.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def trained(path: Path, **options: Any) -> torch.nn.Module:
    """The model of a stage's weight file; of a codec what draws, without what only its training needed."""
    model = native.load_model(path, **options)
    return model.codec if isinstance(model, CodecTraining) else model


@torch.no_grad()
def encode(
    codec: VQGAN | VQVAE, pixels: np.ndarray, device: torch.device, shift: int = 0, seed: int = 0
) -> torch.Tensor:
    """(N, S, S, 3) uint8 -> codes (N, codes), in as few bytes as their number needs.

    With `shift` each picture is moved by chance before, by up to so many pixels each way.
    """
    generator = torch.Generator().manual_seed(seed)
    kind = torch.int16 if codec.config.vocabulary <= torch.iinfo(torch.int16).max else torch.int32
    parts = []
    for start in range(0, len(pixels), ENCODE_BATCH):
        images = from_uint8(shifted(pixels[start : start + ENCODE_BATCH], shift, generator)).to(device)
        parts.append(codec.encode(images).flatten(1).to("cpu", kind))
    return torch.cat(parts)  # (N, codes)
