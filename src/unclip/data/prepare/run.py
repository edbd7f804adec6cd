"""From sources of captioned pictures to a corpus: read or fetch, judge, draw, write, report."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from unclip.data.build import FETCHED, Input, Progress, build
from unclip.data.described import SOURCE, USUAL, Defaults
from unclip.data.folder import Fetch, listed_files, read_folder
from unclip.data.outcome import LeftOuts, Listing
from unclip.data.prepare.captions import check_libraries
from unclip.data.prepare.fetch import Fetcher
from unclip.data.prepare.judges import Embedder, Judges, Policy
from unclip.data.prepare.manners import Manners
from unclip.data.prepare.rules import STANDING, Name, Rules
from unclip.data.records import STORED_SIZE, Drawing, LeftOut
from unclip.data.texts import shown_name
from unclip.errors import InputError
from unclip.runtime import sweep

VERSION = "5"


def prepare(
    sources: Sequence[Path],
    out: Path,
    *,
    rules: Rules,
    defaults: Defaults = USUAL,
    size: int = STORED_SIZE,
    workers: int = 1,
    large: int = 0,
    manners: Manners | None = None,
    embedder: Embedder | None = None,
    against: Sequence[Path] = (),
    policy: Policy | None = None,
    faces: Policy | None = None,
    report: bool = True,
    ray: str = "",
) -> Iterator[Progress]:
    """Builds a corpus in `out` from captioned pictures, yielding its progress.

    All that is understood is read, in all folders within:
        tables (CSV, JSON lines, JSON, Parquet, Arrow) that name pictures and say what they show, optionally
        `tags`, `concept`, `style`, `licence`, `author`; Parquet and Arrow may hold the pictures themselves;
        webdataset shards, plain or compressed, with KEY.png (jpg, webp, ...) and KEY.txt or KEY.json;
        pictures with a text of the same name beside them, one caption a line.

    What cannot be read, and what a rule drops, is no error: it is counted in the card and listed in
    `out/dropped.jsonl`.

    Args:
        sources: folders, tables or shards.
        out: the corpus's folder, outside of the sources.
        rules: those that are on, see `rules.chosen`.
        defaults: for what is not said of a picture.
        size: pixels of a picture's side.
        workers: processes that draw.
        large: SVG pictures that are also drawn at 1024 pixels.
        manners: pictures that tables name by their addresses are fetched so; None fetches nothing.
        embedder: a CLIP, for the rules `semantic` and `score`.
        against: folders of evaluation pictures, captions or none beside them, for the rule `evaluation`.
        policy: says why a picture is refused, for the rule `policy`.
        faces: refuses what shows the face of a person, for the rule `faces`.
        report: writes `out/report`.
        ray: the address of a Ray cluster that draws; "" draws here.

    Raises:
        InputError: a source is not there, `out` lies within one, or a rule lacks what it needs.
        DataError: a source holds no captioned picture, or none is left.
    """
    for source in (*sources, *against):
        if not source.exists():
            raise InputError(f"no folder {source}: name a folder of captioned pictures, a table or a shard")
        if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
            raise InputError(f"{out} lies within {source}: choose a folder outside of the pictures")
    if not sources:
        raise InputError("no source: name a folder of captioned pictures, a table or a shard")
    seeing = (Name.SEMANTIC, Name.SCORE, Name.REWEIGHT)
    for name, given in (*((name, embedder) for name in seeing), (Name.POLICY, policy), (Name.FACES, faces)):
        if name in rules and given is None:
            raise InputError(f"the rule {name} is on and has not what it needs: see `rules.chosen`")
    if Name.REWEIGHT in rules and Name.POLICY not in rules:
        raise InputError("the rule reweight undoes what the rule policy thins out: leave that on")
    if Name.EVALUATION in rules and not against:
        raise InputError("the rule evaluation is on without evaluation pictures: name their folder")
    check_libraries(rules)
    fetch = None
    if manners is not None:
        if (out / FETCHED).is_dir():
            sweep(out / FETCHED)
        fetch = Fetcher(out / FETCHED, manners)
    wanted = any(name in rules for name in seeing)
    judges = Judges(
        rules,
        embedder if wanted else None,
        (lambda: _read_all(against, defaults, None, None, captioned=False)) if against else None,
        policy,
        faces,
        report,
    )
    with Listing() as left_out:
        yield from build(
            out,
            [Input(SOURCE, lambda: _read_all(sources, defaults, left_out, fetch), left_out=left_out)],
            size=size,
            workers=workers,
            large=large,
            fingerprint=_fingerprint(sources, defaults, judges, against, manners),
            title=f"Corpus of {', '.join(shown_name(source.resolve().name) for source in sources)}",
            judges=judges,
            growing=_settings(defaults, judges, against, manners) if report else "",
            ray=ray,
        )


def build_folder(
    source: Path,
    out: Path,
    *,
    defaults: Defaults = USUAL,
    size: int = STORED_SIZE,
    workers: int = 1,
    large: int = 0,
) -> Iterator[Progress]:
    """As `prepare` of one folder, without any rule but those without which no picture can be trained on.

    Raises:
        InputError: `source` is no folder, or `out` lies within it.
        DataError: it holds no captioned picture.
    """
    if not source.is_dir():
        raise InputError(f"no folder {source}: name a folder of captioned pictures")
    yield from prepare(
        [source],
        out,
        rules=STANDING,
        defaults=defaults,
        size=size,
        workers=workers,
        large=large,
        report=False,
    )


class _Prefixed:
    """A list of what one of several sources leaves out, with its name before each."""

    def __init__(self, listing: LeftOuts, prefix: str) -> None:
        self._listing = listing
        self._prefix = prefix

    def append(self, left: LeftOut) -> None:
        """Adds one at the end."""
        self._listing.append(replace(left, key=self._prefix + left.key))

    def clear(self) -> None:
        """Takes all out, of all sources."""
        self._listing.clear()

    def __iter__(self) -> Iterator[LeftOut]:
        return (left for left in self._listing if left.key.startswith(self._prefix))


def _read_all(
    sources: Sequence[Path],
    defaults: Defaults,
    left_out: LeftOuts | None,
    fetch: Fetch | None,
    captioned: bool = True,
) -> Iterator[Drawing]:
    """The pictures of all sources; of several, the source's name is the first part of each key."""
    left_out = [] if left_out is None else left_out
    if len(sources) == 1:
        yield from read_folder(sources[0], defaults, left_out, fetch=fetch, captioned=captioned)
        return
    for source, name in zip(sources, _names(sources), strict=True):
        own = _Prefixed(left_out, f"{name}/")
        for drawing in read_folder(source, defaults, own, fetch=fetch, captioned=captioned):
            yield replace(drawing, key=f"{name}/{drawing.key}")


def _names(sources: Sequence[Path]) -> list[str]:
    """The names of sources, all different."""
    names: list[str] = []
    for source in sources:
        plain = name = shown_name(source.resolve().name)
        number = 2
        while name in names:
            name = f"{plain}-{number}"
            number += 1
        names.append(name)
    return names


def _settings(defaults: Defaults, judges: Judges, against: Sequence[Path], manners: Manners | None) -> str:
    """Stands for everything that a corpus depends on but its sources."""
    given = f"{VERSION}\0{defaults}\0{judges.rules!r}\0{manners and sorted(manners.opted_out)}\0"
    handed_in = (one.identity if one else "" for one in (judges.embedder, judges.policy, judges.faces))
    given += "\0".join((*handed_in, str(judges.report)))
    digest = hashlib.blake2b(given.encode(), digest_size=16)
    _add_files(digest, against)
    return digest.hexdigest()


def _fingerprint(
    sources: Sequence[Path],
    defaults: Defaults,
    judges: Judges,
    against: Sequence[Path],
    manners: Manners | None,
) -> str:
    settings = _settings(defaults, judges, against, manners)
    digest = hashlib.blake2b(settings.encode(), digest_size=16)
    _add_files(digest, sources)
    return digest.hexdigest()


def _add_files(digest: hashlib.blake2b, sources: Sequence[Path]) -> None:
    for source in sources:
        files, others = listed_files(source)
        root = source if source.is_dir() else source.parent
        for name in files:
            with suppress(OSError):
                stat = (root / name).stat()
                digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        digest.update(repr(others).encode())
