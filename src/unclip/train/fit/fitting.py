"""A fit: a folder of pictures and a finished bundle in, a bundle that draws as the pictures are out.

Everything lies in one folder, so that the same command goes on where it was stopped or killed:

    pictures/   the prepared folder          corpus/  what is trained on: that, and drawings of the bundle
    run/        checkpoints and previews     bundle/  the result
    report/     before and now, side by side fit.json the plan, and the time that was used
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unclip.bundle import Bundle
from unclip.config import from_dict
from unclip.data.corpus import Corpus
from unclip.data.described import USUAL, Defaults
from unclip.data.records import Split
from unclip.errors import DataError, InputError
from unclip.evaluate.encoder import Step
from unclip.nn.low_rank import add_low_rank_
from unclip.processes import cores
from unclip.runtime import atomic_path, noise_seed, pick_device
from unclip.stages.stage import finished
from unclip.train import card, checks
from unclip.train.encoded import Encoded
from unclip.train.fit import corpus as mixing
from unclip.train.fit import report, writing
from unclip.train.fit.corpus import Folder
from unclip.train.fit.kept import Drawings, draw_kept
from unclip.train.fit.plan import Plan, planned
from unclip.train.fit.recipe import STAGES, check_base, kept_share, recipe_of
from unclip.train.fit.trial import Trial, try_stage
from unclip.train.fit.verdict import Verdict, verdict
from unclip.train.log import read_metrics
from unclip.train.loop import Task
from unclip.train.run import Run
from unclip.train.stages import BUNDLE
from unclip.train.state import newest_step
from unclip.train.timed import train_for

VERSION = 1  # of what lies in the folder
KEPT_DRAWINGS = 240
LEAST_DRAWINGS = 40
DRAWING_SHARE = 0.06  # of the time, at most, goes into drawings of the bundle
FIRST_DRAWINGS = 4  # that their speed is measured on
MOST_RANK = 256  # of adapters
COMPARED = 200  # own pictures that CLIP is tried on
SET_UP = 20.0  # seconds, for what nothing was measured of: models loaded, the bundle written
FOLDERS = ("corpus", "run", "bundle", "lora", "report")
BEFORE = "before"


class LowRankRun(Run):
    """A run whose stages train adapters of one rank beside the attention, and nothing else."""

    def __init__(self, rank: int, *given: Any, **settings: Any) -> None:
        super().__init__(*given, **settings)
        self.rank = rank

    def task(self, stage: str) -> Task:
        """As `Results.task`, with adapters, whose first weights are a function of the stage alone."""
        task = super().task(stage)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(noise_seed(0, 0, f"train/low-rank/{stage}"))
            add_low_rank_(task.model, self.rank)
        return task


class Fit:
    """One fit of a bundle to folders of pictures.

    Args:
        sources: folders, tables or shards of captioned pictures, or one corpus of `unclip data`.
        out: the folder of the fit.
        base: name or folder of the bundle to begin with.
        hours: that all of it may take together; None is as long as so many pictures want.
        lora: rank of adapters that are trained beside the attention, in place of all weights; None: without.
        device: to compute on.
        defaults: for what is not said of a picture.
        workers: processes that read pictures; None is one a core.
        command: as it was typed, for the card.
        say: is told what is done, a line each.

    Raises:
        InputError: the bundle cannot be fitted, or the time is none.
        BundleError: there is no such bundle.
    """

    def __init__(
        self,
        sources: Sequence[Path],
        out: Path,
        *,
        base: str = "pictograms",
        hours: float | None = None,
        lora: int | None = None,
        device: str | None = None,
        defaults: Defaults = USUAL,
        workers: int | None = None,
        command: str = "",
        say: Callable[[str], None] = print,
    ) -> None:
        if hours is not None and not hours > 0:
            raise InputError(f"hours: got {hours}, allowed is a number above 0")
        if lora is not None and not 1 <= lora <= MOST_RANK:
            raise InputError(f"lora: got {lora}, allowed is a rank from 1 to {MOST_RANK}")
        self.lora = lora
        self.began = time.monotonic()
        self.sources, self.out, self.base_source, self.hours = list(sources), out, base, hours
        self.device_name, self.device, self.say = device, pick_device(device), say
        self.defaults, self.workers, self.command = defaults, workers or cores(), command
        self.base = Bundle.load(base)
        check_base(self.base)
        self.folder: Folder | None = None
        self.trials: dict[str, Trial] = {}

    # --- the folder and the machine ---

    def prepare(self) -> Generator[Step, None, Folder]:
        """Reads the sources; yields (label, done, total), and returns what they hold.

        Raises what `data.prepare` raises, and DataError for too few pictures.
        """
        if len(self.sources) == 1 and mixing.is_corpus(self.sources[0]):
            corpus = self.sources[0]
        else:
            corpus = self.out / "pictures"
            try:
                for event in mixing.prepared(self.sources, corpus, self.defaults, self.workers):
                    yield event.stage, event.done, event.total
            except DataError as error:
                if "unusable caption" not in str(error):
                    raise
                raise DataError(
                    f"{error}. Pictures need captions: beach.txt beside beach.jpg, a table, names of files "
                    "that "
                    "say what they show, or one for all: --caption 'my garden'"
                ) from error
        self.folder = mixing.look(corpus)
        self._put_aside()
        return self.folder

    def plan(self) -> Generator[Step, None, Plan]:
        """Measures the machine, or reads what was measured when the fit began; returns the plan.

        Raises:
            InputError: there is no time to learn in.
        """
        folder = yield from self._looked()
        if (found := self._state().get("plan")) is not None and self._state().get("hours") == self.hours:
            return from_dict(Plan, found)
        yield "measuring", 0, 3
        share = kept_share(folder.learned) if self._keeps(folder) else 0.0
        per_drawing = 0.0
        began = time.monotonic()
        drawings = finished(draw_kept(self.base, FIRST_DRAWINGS, self.device_name))
        per_drawing = (time.monotonic() - began) / max(1, len(drawings))
        yield "measuring", 1, 3
        mixing.mix(folder, drawings if share else None, self.base, self.out / "trial")
        run = self._run(self.out / "trial", share, self.out / "trial-run")
        try:
            trials = {}
            for number, stage in enumerate(STAGES):
                trials[stage] = try_stage(run, stage)
                yield "measuring", 2 + number, 3
            told_apart = self._told_apart(run)
        finally:
            for name in ("trial", "trial-run"):
                shutil.rmtree(self.out / name, ignore_errors=True)
        kept = self._count_kept(per_drawing) if share else 0
        closing = SET_UP + 2 * per_drawing * report.count(len(folder.judged))
        opening = time.monotonic() - self.began + kept * per_drawing + self._spent()
        plan = planned(
            folder,
            trials,
            base=self.base.name,
            machine=card.machine(self.device),
            kept=kept,
            share=share,
            told_apart=told_apart,
            rest=closing + opening,
            seconds=None if self.hours is None else 3600 * self.hours - closing - opening,
            low_rank=self.lora is not None,
        )
        self._note(plan=asdict(plan), hours=self.hours, closing=closing)
        return plan

    def _looked(self) -> Generator[Step, None, Folder]:
        if self.folder is None:
            yield from self.prepare()
        assert self.folder is not None
        return self.folder

    def _keeps(self, folder: Folder) -> bool:
        """True where drawings of the bundle can be mixed in: none says what the pictures' own captions say.

        Where all prompts are to be drawn in a new style, a plain prompt must not have two answers.
        """
        return bool(self.base.styles.clear) or bool(folder.common)

    def _count_kept(self, per_drawing: float) -> int:
        if self.hours is None:
            return KEPT_DRAWINGS
        in_time = int(DRAWING_SHARE * 3600 * self.hours / max(per_drawing, 1e-3))
        return max(LEAST_DRAWINGS, min(KEPT_DRAWINGS, in_time))

    def _told_apart(self, run: Run) -> float:
        """Share of the pairs of a caption and two own pictures in which CLIP finds the right one nearer."""
        encoded = Encoded.of(run)
        tokenizer, context = run.tokenizer(), encoded.clip.config.text.context
        own = [k for k, source in enumerate(run.train.column("source")) if source != mixing.KEPT][:COMPARED]
        captions = [run.train.name(k) for k in own]
        texts, _ = encoded.text(tokenizer.batch(captions, context).to(self.device))
        similar = texts.cpu() @ encoded.embeddings[own].T  # (N, N)
        names = np.array(captions, object)
        other = torch.from_numpy(names[:, None] != names[None, :])
        if not other.any():
            return 1.0  # all say the same: there is nothing to tell apart
        right = similar.diagonal()[:, None] > similar
        return float(right[other].float().mean())

    # --- the work ---

    @property
    def done(self) -> bool:
        """True where the bundle and the report are there: nothing is left to do."""
        return bool(self._state().get("done")) and (self.out / BUNDLE).is_dir()

    def left(self, plan: Plan) -> float:
        """Seconds until all of a plan is done, of one that was begun earlier what is left of it."""
        used = sum(_seconds(self.out / "run", stage) for stage in STAGES)
        taken = self._spent() + time.monotonic() - self.began + used
        return max(0.0, plan.training + plan.rest - taken)

    def gather(self, plan: Plan) -> Generator[Step, None, None]:
        """Draws what the bundle knows, and puts the corpus together that is trained on."""
        folder = yield from self._looked()
        corpus, path, drawings = self.out / "corpus", self.out / "drawings.npz", None
        if mixing.is_corpus(corpus):
            return
        if plan.kept:
            if not path.exists():
                (yield from draw_kept(self.base, plan.kept, self.device_name)).save(path)
            drawings = Drawings.load(path)
        mixing.mix(folder, drawings, self.base, corpus)

    def train(self, plan: Plan) -> list[Verdict]:
        """Trains both stages, or goes on with them, and returns what became of each.

        Where hours were given they end in time, else after the steps of the plan.

        Raises:
            Interrupted: it was stopped; the same command goes on.
            What `timed.train_for` raises.
        """
        run = self._run(self.out / "corpus", plan.share, self.out / "run", plan)
        before = self._spent() + time.monotonic() - self.began
        self._note(spent=before)
        if self.hours is None:
            checks.check(run, [stage for stage in run.named if stage != BUNDLE])
            with run.alone():
                for stage in STAGES:
                    run.weights(stage)
        else:
            used = {stage: _seconds(self.out / "run", stage) for stage in STAGES}
            left = {stage: max(1.0, plan.seconds[stage] - used[stage]) for stage in STAGES}
            closing = float(self._state()["closing"])
            seconds = 3600 * self.hours - closing - before - sum(used.values())
            train_for(run, max(seconds, 1.0) / 60, left, self.say, plan.steps)
        verdicts = self._verdicts()
        for one in verdicts:
            self.say(one.told())
        return verdicts

    def finish(self, plan: Plan) -> Generator[Step, None, Path]:
        """Writes the bundle and the report, whose file is returned."""
        verdicts, corpus = self._verdicts(), self.out / "corpus"
        yield "writing the bundle", 0, 1
        run = self._run(corpus, plan.share, self.out / "run", plan)
        for stage in STAGES:
            run.recipe[stage]["train"]["steps"] = newest_step(self.out / "run" / stage)
        bundle = writing.write(run, self.base, plan, verdicts, self.out / BUNDLE)
        if self.lora is not None:
            writing.write_apart(run, self.base, plan, self.lora, self.out / "lora")
        yield "writing the bundle", 1, 1
        rows = yield from report.rows(self.base, bundle, corpus, plan, self.device_name)
        title = f"{bundle.name}: {self.base.name}, fitted"
        page = report.write(self.out / "report", title, plan, verdicts, rows, self.base.name)
        self._note(done=True)
        return page

    def _run(self, data: Path, share: float, out: Path, plan: Plan | None = None) -> Run:
        recipe = recipe_of(self.base, self.base_source, share, self.lora is not None)
        recipe[BUNDLE] = {"name": self.out.resolve().name}
        if plan is not None:
            recipe[BUNDLE] |= {
                "limits": writing.limits(plan),
                "data": f"{plan.pictures:,} captioned pictures of one's own, and what {plan.base} was "
                "trained on: "
                f"{self.base.manifest.data}",
            }
            for stage in STAGES:
                train = recipe[stage]["train"]
                train["steps"] = plan.steps[stage]
                train["evaluate_steps"] = train["preview_steps"] = plan.evaluate[stage]
                train["log_steps"] = max(1, plan.evaluate[stage] // 2)  # what was used is read off there
        if self.lora is None:
            return Run(recipe, data, out, self.device, command=self.command)
        return LowRankRun(self.lora, recipe, data, out, self.device, command=self.command)

    def _verdicts(self) -> list[Verdict]:
        learned, judged = (
            len(Corpus(self.out / "corpus", split)) for split in (Split.TRAIN, Split.UNSEEN_CONCEPTS)
        )
        found = (verdict(self.out / "run", stage, judged or learned, bool(judged)) for stage in STAGES)
        return [one for one in found if one is not None]

    # --- what is kept between two calls ---

    @property
    def identity(self) -> str:
        """Stands for pictures, bundle and settings: with others a fit begins anew."""
        assert self.folder is not None
        text = f"{VERSION}\0{self.folder.fingerprint}\0{self.base.identity}\0{self.lora}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _put_aside(self) -> None:
        """Makes room where the folder holds a fit of other pictures or of another bundle."""
        found = self._state().get("identity")
        if found == self.identity:
            return
        if found is not None:
            before = self.out / BEFORE
            shutil.rmtree(before, ignore_errors=True)
            before.mkdir()
            for name in FOLDERS:
                if (self.out / name).exists():
                    (self.out / name).replace(before / name)
            self.say(
                "your pictures, the bundle to begin with, or --lora have changed since the last fit into "
                f"{self.out}: it begins anew, and the old one is in {before}"
            )
            (self.out / "drawings.npz").unlink(missing_ok=True)
        self._write({"identity": self.identity})

    def _state(self) -> dict[str, Any]:
        try:
            found = json.loads((self.out / "fit.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _note(self, **changes: Any) -> None:
        self._write({**self._state(), **changes})

    def _write(self, document: dict[str, Any]) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.out / "fit.json") as temporary:
            temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")

    def _spent(self) -> float:
        """Seconds of earlier calls that were not training."""
        return float(self._state().get("spent", 0.0))


def _seconds(out: Path, stage: str) -> float:
    """Seconds that a stage of a run has trained."""
    return max(
        (float(line["seconds"]) for line in read_metrics(out / stage) if "seconds" in line), default=0.0
    )
