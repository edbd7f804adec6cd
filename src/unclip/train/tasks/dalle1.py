"""DALL-E 1's task: the caption's tokens and the picture's codes, each from those before it (2102.12092)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.data.corpus import Corpus
from unclip.errors import InputError
from unclip.images import from_uint8
from unclip.models.code_sampling import CodeSampling, exponential_noise, write_codes
from unclip.models.dalle1 import Dalle1, Dalle1Config
from unclip.models.vqgan import VQGAN
from unclip.models.vqvae import VQVAE
from unclip.runtime import atomic_path, noise_generator, sha256
from unclip.tokenizer import Tokenizer, Tokens
from unclip.train import parallel
from unclip.train.loop import Judged, Task
from unclip.train.merge_dropout import MergeDropout
from unclip.train.parallel import mean_of_processes
from unclip.train.pictures import LARGEST_SHIFT, HeldOut, Pictures, PicturesConfig, shifted, spread
from unclip.train.places import Places
from unclip.train.results import Results
from unclip.train.settings import Settings
from unclip.train.state import writing
from unclip.train.tasks.diffusion import kept
from unclip.train.tasks.stage import StageTask, rows_of_pictures

ENCODE_BATCH = 64
EVALUATION_BATCH = 16
PREVIEW_PICTURES = 8
MOST_COPIES = 1000
PREVIEW_SAMPLING = CodeSampling(guidance=2.0)


@dataclass(frozen=True)
class Dalle1TaskConfig:
    """The training of the transformer.

    Attributes:
        caption_drop: share of captions that are replaced by the empty one, for classifier-free guidance.
        merge_dropout: share of the tokenizer's merges that are left out; 0.1 in section 2.2 of the paper.
        code_keep: share of codes that are read as they are, the others being replaced by chance ("pkeep" of
            2012.09841's code): a small corpus is learned by heart more slowly, and a wrongly drawn code is
            no surprise.
        copies: so many times each picture is encoded, all but the first time moved by chance.
        shift: by up to so many pixels each way, on white.
        checkpointing: compute activations a second time instead of keeping them.
        pictures: which pictures, with which captions; how they move is said by `shift` above.
    """

    caption_drop: float = 0.1
    merge_dropout: float = 0.1
    code_keep: float = 1.0
    copies: int = 1
    shift: int = 0
    checkpointing: bool = False
    pictures: PicturesConfig = field(default_factory=PicturesConfig)

    def __post_init__(self) -> None:
        if self.pictures.shift:
            raise InputError(
                f"pictures.shift {self.pictures.shift}: pictures are encoded before, so give copies and shift"
            )
        if not 0 < self.code_keep <= 1:
            raise InputError(f"code_keep {self.code_keep}: choose more than 0, at most 1")
        if not 0 <= self.caption_drop <= 1 or not 0 <= self.merge_dropout < 1:
            raise InputError(
                f"caption_drop {self.caption_drop}, merge_dropout {self.merge_dropout}: choose from 0 to 1, "
                "and fewer than all merges"
            )
        if self.copies > MOST_COPIES or self.shift > LARGEST_SHIFT:
            raise InputError(
                f"copies {self.copies}, shift {self.shift}: choose at most {MOST_COPIES} and {LARGEST_SHIFT}"
            )
        if self.copies < 1 or self.shift < 0 or (self.copies == 1) != (self.shift == 0):
            raise InputError(
                f"copies {self.copies}, shift {self.shift}: give both, 2 and 1 at least, or leave both out"
            )


class Coded:
    """A trained codec, frozen, with the codes of every picture of the corpus (computed once)."""

    def __init__(
        self, codec: VQGAN | VQVAE, codes: Tensor, held_out: HeldOut, held_out_codes: Tensor
    ) -> None:
        self.codec = codec.eval().requires_grad_(False)
        self.codes = codes  # (N, copies, codes) int16 or int32: no more memory than the numbers need
        self.held_out = held_out
        self.held_out_codes = held_out_codes  # (M, codes) int64


class Dalle1Task(StageTask):
    """Section 2.2 of 2102.12092; with the caption left out now and then, for classifier-free guidance."""

    name = "dalle1"
    model: Dalle1
    task: Dalle1TaskConfig

    def __init__(
        self, model: Dalle1Config, task: Dalle1TaskConfig, coded: Coded, tokenizer: Tokenizer, train: Corpus
    ) -> None:
        if coded.codes.shape[2] != model.codes:
            raise InputError(f"grid {model.grid}: the codec makes {coded.codes.shape[2]} codes of a picture")
        self.model = Dalle1(model)
        self.model.checkpointing = task.checkpointing
        self.task = task
        self.coded = coded
        self.tokenizer = tokenizer
        self.merge_dropout = MergeDropout(tokenizer, task.merge_dropout) if task.merge_dropout else None
        size = coded.held_out.pixels.shape[1]
        self.pictures = Pictures(train, task.pictures, tokenizer, model.text_context, size)
        self.empty = self._read([""])

    def batch(self, places: Places) -> tuple[Tokens, Tensor]:
        index, captions, choices = self.pictures.choose(places)
        context = self.model.config.text_context
        if self.merge_dropout is None:
            tokens = self._read(captions)
        else:
            tokens = self.merge_dropout.batch(captions, context, choices)
        copies = places.randint(0, self.task.copies)
        return tokens, self.coded.codes[torch.from_numpy(index), copies].long()

    def loss(
        self, model: nn.Module, batch: tuple[Tokens, Tensor], places: Places
    ) -> tuple[Tensor, dict[str, Tensor]]:
        tokens, codes = batch
        assert isinstance(model, Dalle1)
        told = kept(places, self.task.caption_drop)
        empty = self.empty.to(codes.device)
        ids = torch.where(told[:, None], tokens.ids, empty.ids)
        mask = torch.where(told[:, None], tokens.mask, empty.mask)
        terms = mean_of_processes((mask[:, 1:] & told[:, None]).sum())  # section 2.2: of the whole batch
        losses = model.losses(ids, mask, codes, told, self._read_codes(codes, places), terms)
        return losses.total, {"text": losses.text, "codes": losses.codes}

    def _read_codes(self, codes: Tensor, places: Places) -> Tensor:
        """The codes (B, N) as the model reads them."""
        if self.task.code_keep == 1:
            return codes
        stays = places.rand(codes.shape[1]) < self.task.code_keep
        other = places.randint(0, self.model.config.vocabulary, codes.shape[1])
        return torch.where(stays, codes, other)

    @property
    def judged(self) -> Judged:
        return self.coded.held_out.judged

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Nats a code of held-out pictures, given their names in each language and given no caption."""
        assert isinstance(model, Dalle1)
        names = self.coded.held_out.names
        figures = {f"nats_a_code_{language}": self._nats(model, texts) for language, texts in names.items()}
        without = [""] * len(self.coded.held_out_codes)
        return {**figures, "nats_a_code_without_caption": self._nats(model, without)}

    @torch.no_grad()
    def preview(self, model: nn.Module) -> Image.Image | None:
        """Held-out pictures as the codec has them above, below what is drawn from their English names."""
        assert isinstance(model, Dalle1)
        held_out = self.coded.held_out
        chosen = spread(len(held_out.pixels), PREVIEW_PICTURES)
        truth = self.coded.held_out_codes[chosen]  # (B, codes)
        drawn = self._draw(model, [held_out.names["en"][i] for i in chosen])
        device = drawn.device
        grid = model.config.grid
        both = torch.cat([truth.to(device), drawn]).view(-1, grid, grid)
        images = self.coded.codec.decode(both).float().clamp(-1, 1)
        return rows_of_pictures(*images.split(len(chosen)))

    def _nats(self, model: Dalle1, texts: list[str]) -> float:
        tokens = self._read(texts)
        device = model.token.weight.device
        total = 0.0
        for rows in torch.arange(len(texts)).split(EVALUATION_BATCH):
            codes = self.coded.held_out_codes[rows].to(device)
            losses = model.losses(tokens.ids[rows].to(device), tokens.mask[rows].to(device), codes)
            total += float(losses.codes) * len(rows)
        return total / len(texts)

    def _draw(self, model: Dalle1, texts: list[str]) -> Tensor:
        """(B, codes), the same noise every time."""
        device = model.token.weight.device
        tokens = self._read([""] * len(texts) + texts).to(device)  # first without the prompt, for guidance
        noise = exponential_noise(
            [noise_generator(0, index, "preview") for index in range(len(texts))],
            model.config.vocabulary,
            device,
        )
        step = partial(model.step, model.begin(tokens.ids, tokens.mask))
        return torch.stack(list(write_codes(step, model.config.codes, noise, PREVIEW_SAMPLING)), dim=1)

    def _read(self, texts: list[str]) -> Tokens:
        return self.tokenizer.batch(texts, self.model.config.text_context, full=True)


def settings_of(run: Results, stage: str) -> Settings:
    sizes = {
        "text_vocabulary": run.ids().vocabulary,
        "vocabulary": run.config("vqvae", stage).vocabulary,
    }
    model = run.part(stage, "model", Dalle1Config, **sizes)
    return Settings(model, run.part(stage, "task", Dalle1TaskConfig))


def task_of(run: Results, stage: str) -> Task:
    tokenizer, codec = run.tokenizer(), run.model("vqvae").to(run.device)
    assert isinstance(codec, VQGAN | VQVAE)
    model, settings, _ = settings_of(run, stage)
    side = model.grid * codec.config.factor
    held_out = HeldOut(run.held_out, tokenizer, model.text_context, side)
    codes = _codes(run, codec, side, settings)
    coded = Coded(codec, codes, held_out, _encode(codec, held_out.pixels).long())
    return Dalle1Task(model, settings, coded, tokenizer, run.train)


def _codes(run: Results, codec: VQGAN | VQVAE, side: int, settings: Dalle1TaskConfig) -> Tensor:
    """(N, copies, codes) of the pictures of the training split, each copy computed once and kept.

    Several processes share the copies out among themselves.
    """
    name = f"codes-{side}-{sha256(run.weights('vqvae'))[:12]}"
    names = [name, *(f"{name}-shift-{settings.shift}-{copy}" for copy in range(1, settings.copies))]
    files = [run.cached(name, len(run.train)) for name in names]
    world = parallel.join(run.device)
    for copy, file in enumerate(files):
        if copy % world.size == world.rank and not file.exists():
            shift = settings.shift if copy else 0
            codes = _encode(codec, run.train.pixels(side), shift, seed=copy).numpy()
            with writing(run.out, file.name), atomic_path(file) as temporary:
                np.save(temporary, codes)
    world.barrier()
    return torch.from_numpy(np.stack([np.load(file) for file in files], axis=1))


@torch.no_grad()
def _encode(codec: VQGAN | VQVAE, pixels: np.ndarray, shift: int = 0, seed: int = 0) -> Tensor:
    """(N, S, S, 3) uint8 -> codes (N, codes) on the CPU, in as few bytes as their number needs.

    With `shift` each picture is moved by chance before, by up to so many pixels each way.
    """
    device = next(codec.parameters()).device
    kind = torch.int16 if codec.config.vocabulary <= torch.iinfo(torch.int16).max else torch.int32
    parts = []
    for step, start in enumerate(range(0, len(pixels), ENCODE_BATCH)):
        part = pixels[start : start + ENCODE_BATCH]
        images = from_uint8(shifted(part, shift, Places.whole(len(part), seed, step))).to(device)
        parts.append(codec.encode(images).flatten(1).to("cpu", kind))
    return torch.cat(parts)  # (N, codes)
