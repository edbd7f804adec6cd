"""The run of a recipe: its stages one after the other, each in a folder of its own, up to the bundle.

A stage whose final weights lie there already is not trained again; a stage that was stopped goes on. One
whose corpus, settings or earlier stages are others by now is stale: it is trained anew if that is asked for.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from unclip.errors import InputError, TrainingError
from unclip.runtime import folder_lock, sweep
from unclip.train import bundling, checks, outlook, parallel, standing, state
from unclip.train.results import Results
from unclip.train.stages import BUNDLE, STAGES, TOKENIZER
from unclip.train.standing import BEFORE, Standing

CACHED = ("embeddings-*.npy", "codes-*.npy")  # computed once, of a stage's weights and the corpus


class Run(Results):
    """One run: what is to be done, and the doing of it."""

    def wanted(self, only: str | None = None) -> list[str]:
        """The stages that are to be there in the end: all, or one with those that it is trained on."""
        if only is None:
            return self.named
        if only not in self.named:
            raise InputError(f"unknown stage {only!r}: this recipe has {', '.join(self.named)}")
        if only == BUNDLE:
            return self.named
        needed = {only}
        for stage in reversed(self.named):
            needed |= set(self.needs(stage)) if stage in needed else set()
        return [stage for stage in self.named if stage in needed]

    def check(self, only: str | None = None, redo: bool = False) -> str:
        """Check all that can go wrong before the first step, and say what is to be done, stage by stage.

        Args:
            only: a stage of the recipe, in place of all.
            redo: stale stages are trained anew.

        Raises:
            InputError, BundleError, CheckpointError, DataError: as `checks.check`.
            TrainingError: stages are stale, and are not to be trained anew.
        """
        wanted = self.wanted(only)
        checks.check(self, wanted)
        found = standing.of(self, wanted)
        if not redo:
            standing.refuse_stale(self, found)
        outlook.remark(self, found)
        return outlook.text(self, found)

    def go(self, only: str | None = None, redo: bool = False) -> Path:
        """Train every stage of the recipe, or the one named `only`, and return the folder of the run.

        With `redo` stale stages are trained anew; the old ones are kept in the folder `before` of the run.

        Raises:
            InputError, BundleError, CheckpointError, DataError: as `checks.check`.
            TrainingError: another process trains in the folder, stages are stale, or as `loop.train`.
            Interrupted: it was stopped.
        """
        wanted = self.wanted(only)
        checks.check(self, wanted)
        with self.alone():
            found = standing.of(self, wanted)
            if not redo:
                standing.refuse_stale(self, found)
            if self.writes:
                print(outlook.text(self, found), file=sys.stderr, flush=True)
                outlook.remark(self, found)
                self._put_aside(found)
            parallel.join(self.device).barrier()
            for stage in self.named if only is None else [only]:
                if stage == TOKENIZER:
                    self.tokenizer()
                elif stage == BUNDLE:
                    self.bundle()
                else:
                    self.weights(stage)
        return self.out

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While it lasts no other run writes into the folder; what killed ones had half written is gone."""
        if not self.writes:
            yield
            return
        busy = TrainingError(
            f"another process trains in {self.out}: wait until it is done, or train in another folder"
        )
        with contextlib.ExitStack() as stack:
            with state.writing(self.out, "into the folder"):
                stack.enter_context(folder_lock(self.out, busy))
                for stage in (self.out / name for name in STAGES):
                    for folder in (stage, *(stage / name for name in state.FOLDERS)):
                        if folder.is_dir():
                            sweep(folder)
                            (folder / state.NEXT).unlink(missing_ok=True)
            yield

    def _put_aside(self, found: Sequence[Standing]) -> None:
        """Makes room for stale stages to be trained anew."""
        stale = [one.stage for one in found if one.stale]
        with state.writing(self.out, BEFORE):
            for stage in stale:
                for path in self.files(stage):
                    if path.exists():
                        target = self.out / BEFORE / path.name
                        if target.is_dir():
                            shutil.rmtree(target)
                        target.parent.mkdir(exist_ok=True)
                        path.replace(target)
            if stale:  # those that do not say of which corpus they are may be of another
                for path in (path for pattern in CACHED for path in self.out.glob(pattern)):
                    if not path.stem.endswith(self.corpus_digits):
                        path.unlink()

    def bundle(self) -> Path:
        """The bundle of what was trained, with its model card, in the folder `bundle` of the run.

        Of several processes one writes it, the others wait.
        """
        folder, world = self.out / BUNDLE, parallel.join(self.device)
        if world.writes:
            bundling.write(self, folder)
        world.barrier()
        return folder
