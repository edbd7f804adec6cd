"""Trains a GAN of a maintained recipe on the pictures that ADM learns from, and has both judged.

    python benchmarks/gan.py train CORPUS PICTURES.npy --minutes 15 [--by subgroup] [--most-channels 128]
    python benchmarks/gan.py judge CORPUS JUDGE PICTURES.npy BUNDLE... [--guidance 0 1 2]

"Diffusion models beat GANs" (2105.05233) at this size. `train` is for an environment of its own, with
lightweight-gan 1.2.1 (FastGAN, 2101.04775) installed without what it asks for, and torchvision, kornia,
adabelief-pytorch and einops; its trainer is for CUDA, which is told to it here to be the CPU. It draws the
pictures that `judge` compares with those of ADM bundles (docs/reproduction.md says how they are trained for
as long): Frechet distance to real pictures over the real ones' own, precision and recall (1904.06991), all in
the judge's space. ADM draws classes as often as the corpus has them, at several scales of its classifier.
Writes `benchmarks/results/gan.json` and a sheet of each, `docs/images/gan-NAME.png`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from guidance import column_of, told
from PIL import Image

import unclip
from unclip.data.corpus import Corpus
from unclip.drawing import Options
from unclip.evaluate.encoder import Encoder
from unclip.evaluate.stages import draw
from unclip.evaluate.statistics import frechet_distances, precision_recall
from unclip.pipeline import load
from unclip.runtime import atomic_path, limit_spinning, pick_device, pick_precision
from unclip.sheets import contact_sheet
from unclip.train.labelled import ClassBy

ROOT = Path(__file__).parent.parent
RESULT, IMAGES = ROOT / "benchmarks/results/gan.json", ROOT / "docs/images"
SIZE = 64
COUNT = 1000  # pictures that are judged
SHOWN = 32
CHANNELS = 128  # most of the GAN's: at its own 512 a CPU sees too few pictures
BATCH = 32


class OnCpu:
    """PyTorch as lightweight-gan names it, where every device is the CPU."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def device(*_: object) -> torch.device:
        return torch.device("cpu")


def peer() -> Any:
    """The module lightweight_gan, for this CPU."""
    torch.cuda.is_available = lambda: True  # asked for at import
    try:
        from lightweight_gan import lightweight_gan as module
    finally:
        torch.cuda.is_available = lambda: False
    module.torch = OnCpu()
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *_: self
    return module


def train(given: argparse.Namespace) -> None:
    """Train for so many minutes, then draw."""
    module = peer()
    corpus = Corpus(given.corpus)
    rows = np.flatnonzero(np.array(corpus.column(given.by)) != "")
    torch.manual_seed(given.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        folder.mkdir()
        pixels = corpus.pixels(SIZE)
        for row in rows.tolist():
            Image.fromarray(np.asarray(pixels[row])).save(folder / f"{row}.png")
        trainer = module.Trainer(
            base_dir=place,
            image_size=SIZE,
            fmap_max=given.most_channels,
            batch_size=BATCH,
            save_every=10**9,
            evaluate_every=10**9,
            use_aim=False,
            num_workers=1,
        )
        trainer.set_data_src(folder)
        trainer.init_GAN()
        trainer.evaluate = lambda *_, **__: None  # its samples on disk
        trainer.save = lambda *_: None
        started = time.perf_counter()
        while time.perf_counter() - started < 60 * given.minutes:
            trainer.train()
            if trainer.steps % 50 == 0:
                losses = f"D {trainer.d_loss:.2f}, G {trainer.g_loss:.2f}"
                print(f"step {trainer.steps}: {losses}", file=sys.stderr)
        seconds = time.perf_counter() - started
    generator = trainer.GAN.G.eval()
    with torch.no_grad():
        parts = [generator(torch.randn(50, trainer.latent_dim)) for _ in range(given.count // 50)]
    images = torch.cat(parts).clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1)
    with atomic_path(given.out) as temporary, open(temporary, "wb") as file:
        np.save(file, images.numpy())
    parameters = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in (("generator", trainer.GAN.G), ("discriminator", trainer.GAN.D))
    }
    about = {"steps": trainer.steps, "pictures": trainer.steps * BATCH, "seconds": seconds, **parameters}
    given.out.with_suffix(".json").write_text(json.dumps(about) + "\n")
    print(json.dumps(about))


def judge(given: argparse.Namespace) -> None:
    """Compare the GAN's pictures and ADM's with real ones."""
    limit_spinning()
    device = pick_device()
    encoder = Encoder.load(given.judge, device, pick_precision(device))
    corpus = Corpus(given.corpus)
    random = np.random.default_rng(given.seed)
    series: dict[str, np.ndarray] = {"lightweight-gan": np.load(given.pictures)}
    about: dict[str, Any] = {"lightweight-gan": json.loads(given.pictures.with_suffix(".json").read_text())}
    count = len(series["lightweight-gan"])
    classes = np.array(corpus.column(given.by))
    # as many to compare with as are drawn, and as many again, of other pictures, for what real ones reach
    rows = random.permutation(np.flatnonzero(classes != ""))[: 2 * count]
    pixels = np.asarray(corpus.pixels(SIZE)[np.sort(rows)])[rows.argsort().argsort()]
    real, series["real"] = encoder.images(pixels[:count]), pixels[count:]
    for source in given.bundles:
        model = load(source)
        if column_of(model, corpus) != given.by:
            raise SystemExit(f"{source} draws classes by {column_of(model, corpus)}, not by {given.by}")
        for scale in given.guidance:
            name = f"{model.bundle.name}, guidance {scale:g}"
            options = Options(size=model.sizes[0], guidance=scale)
            series[name] = told(draw(model, classes[rows[:count]].tolist(), given.seed, name, options))
            about[name] = {"weights": model.bundle.identity}
    found = {}
    for name, pictures in series.items():
        features = encoder.images(pictures)
        distances = frechet_distances(features, real, given.seed)
        assert distances is not None  # of a hundred pictures and more
        precision, recall = precision_recall(features, real)
        found[name] = {
            **about.get(name, {}),
            "frechet_over_real": asdict(distances.ratio),
            "precision": precision,
            "recall": recall,
        }
        print(
            f"\r{name}: Frechet {distances.ratio.value:.2f}, precision {precision:.2f}, recall {recall:.2f}"
        )
        sheet = contact_sheet([Image.fromarray(one) for one in pictures[:SHOWN]], columns=SHOWN // 2)
        with atomic_path(IMAGES / f"gan-{name.replace(', ', '-').replace(' ', '-')}.png") as temporary:
            sheet.save(temporary, "PNG")
    report = {"judge": encoder.weights, "pictures": count, "seed": given.seed, "version": unclip.__version__}
    with atomic_path(RESULT) as temporary:
        temporary.write_text(json.dumps({**report, "by": given.by, "models": found}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for work in (train, judge):
        command = commands.add_parser(work.__name__, help=work.__doc__)
        command.set_defaults(work=work)
        command.add_argument("corpus", type=Path)
        command.add_argument("--by", choices=list(ClassBy), default=ClassBy.SUBGROUP)
        command.add_argument("--seed", type=int, default=0)
        if work is train:
            command.add_argument("out", type=Path, help="file for the pictures, .npy")
            command.add_argument("--minutes", type=float, default=15.0)
            command.add_argument("--most-channels", type=int, default=CHANNELS)
            command.add_argument(
                "--count", type=int, default=COUNT, help="pictures to draw, a multiple of 50"
            )
        else:
            command.add_argument("judge", help="folder of a run of `unclip train judge`")
            command.add_argument("pictures", type=Path, help="what `train` drew")
            command.add_argument("bundles", nargs="+")
            command.add_argument("--guidance", type=float, nargs="+", default=[0.0, 1.0, 2.0])
    given = parser.parse_args()
    given.work(given)


if __name__ == "__main__":
    main()
