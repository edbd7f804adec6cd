"""From drawings to a corpus on disk: draw, filter, split, write shards, manifest and card."""

from __future__ import annotations

import re
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unclip.data import card, outcome
from unclip.data.draw_workers import STAGED, DrawingPool, drawing_pool, open_staged, stage
from unclip.data.filters import seen
from unclip.data.grown import FOLDER as KNOWN
from unclip.data.grown import Known, forget, keep
from unclip.data.manifest import MANIFEST, WEIGHTED
from unclip.data.outcome import LeftOuts
from unclip.data.prepare import report
from unclip.data.prepare.decide import Decisions, Embedded, Evaluation, Reduced, decide, rows_of
from unclip.data.prepare.judges import ALONE, Judges, embed_all, embedded, evaluation, refused
from unclip.data.prepare.rules import STANDING, Name, Rules
from unclip.data.records import (
    CACHE,
    CARD_FILE,
    DROPPED_FILE,
    FACES,
    GROUPS,
    LARGE_SIDE,
    MANIFEST_FILE,
    SCENES,
    STORED_SIZE,
    WEIGHT,
    Drawing,
    Fit,
    LeftOut,
    Split,
    load_captions,
)
from unclip.data.shards import Placed, write_shards
from unclip.data.splits import is_unseen_concept, order, share, split_pairs
from unclip.data.wording import slug
from unclip.errors import DataError, InputError
from unclip.runtime import LOCK, atomic_path, check_writable, folder_lock, sweep, write_failure

REPORT, FETCHED = "report", "fetched"
READ = 256  # rows whose pictures are in memory while shards are written
CHUNK, LARGE_CHUNK = 128, 32  # pictures in a file while they are drawn
LARGE_PER_SHARD = 250
LARGE_SHARD = "large"
BUILDING, SHARDS, ARCHIVES = ".building", "shards", "archives"
OWN_SHARD = re.compile(rf"(?:{'|'.join([*Split, LARGE_SHARD])})-\d{{5}}\.tar")
IDENTITY = b"unclip.corpus"  # a key in the manifest's own metadata
METADATA = ("concept", "style", "source", "licence", "author", "tone", "names")


@dataclass(frozen=True)
class Progress:
    """The progress of a build: `done` of `total` pictures of one stage; total is 0 while it is not known."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Input:
    """One source to build from. It adds what it finds and cannot read to `left_out`, while it is read.

    The pictures of a `test_only` one are a split of their own. Those of a `train_only` one are all trained on
    and change the split of no other picture; what shows a thing that is held out of the others is dropped.
    """

    name: str
    drawings: Callable[[], Iterable[Drawing]]
    test_only: bool = False
    train_only: bool = False
    left_out: LeftOuts = field(default_factory=list[LeftOut])


def drawn_only(rules: Rules) -> Rules:
    """Rules under which pictures are drawn, and measured, and nothing is said of their captions."""
    standing = {name: rules.on.get(name, threshold) for name, threshold in STANDING.on.items()}
    return Rules(standing | {Name.PERCEPTUAL: None})


def build(
    out: Path,
    inputs: Sequence[Input],
    *,
    size: int = STORED_SIZE,
    workers: int = 1,
    large: int = 0,
    fingerprint: str,
    title: str,
    groups: Mapping[str, tuple[str, str]] | None = None,
    judges: Judges = ALONE,
    growing: str = "",
    ray: str = "",
) -> Iterator[Progress]:
    """Builds a corpus in `out`; a build that was stopped goes on, and one that is there is left as it is.

    Both only if `fingerprint`, which stands for what goes into the corpus, and the other settings are the
    same; a manifest of before there were groups gets them. `groups` are the group and subgroup of emoji, by
    concept; `judges` are the rules, and what they need. `growing` stands for everything but the sources:
    where a corpus was made with the same, and its sources have only grown, what is new comes in shards of
    its own. `ray` is the address of a cluster that draws (see `data.ray_pool`), in place of processes here.
    Pictures are drawn in `out/.building`; a corpus that stands in `out` stays until the new one is drawn, and
    the manifest, without which a folder is no corpus, is written last.

    Raises:
        InputError: `out` holds something that is no corpus, or cannot be written into.
        DataError: a source cannot be read, no picture is left, or another process builds in `out`.
    """
    building, manifest = out / BUILDING, out / MANIFEST_FILE
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if there - {ARCHIVES, LOCK, FETCHED} and not there & {MANIFEST_FILE, BUILDING}:
        raise InputError(f"{out} is not empty and is no corpus: name a new folder")
    identity = f"{fingerprint} size={size} large={large}"
    if MANIFEST_FILE in there and identity_of(manifest) == identity:
        _add_groups(manifest, groups or {})
        yield Progress("up to date", 1, 1)
        return
    check_writable(out)
    busy = DataError(
        f"another process builds a corpus in {out}: wait until it is done, or name another folder"
    )
    with _writing(out), folder_lock(out, busy), _pool(workers, ray) as pool:
        _begin(building, f"{fingerprint} size={size} {' '.join(STAGED.names)}")
        rules = judges.rules
        # weights of all pictures change with every one that comes
        grows = growing and not large and Name.REWEIGHT not in rules
        growing = f"{growing} size={size} {' '.join(STAGED.names)}" if grows else ""
        known = None
        if growing and MANIFEST_FILE in there:
            known = Known.open(out, growing, pq.read_metadata(manifest).num_rows)
        staged: list[Path] = []
        for number, source in enumerate(inputs):
            staged += yield from _staged(source, building, number, size, pool, rules, known)
        if known is not None and known.gone:  # not only grown: everything is made anew
            known = None
            for source in inputs:
                source.left_out.clear()
            staged = []
            for number, source in enumerate(inputs):
                staged += yield from _staged(source, building, number, size, pool, rules, None)
        before = known.table if known else STAGED.empty_table()
        table = pa.concat_tables([before, open_staged(staged)])
        seen_by_clip: Embedded | None = None
        if judges.embedder is not None:
            for count in embed_all(staged, judges.embedder):
                yield Progress("embed", count, len(table) - len(before))
            seen_by_clip = embedded(staged, judges.embedder, known.embedded if known else None)
        tested: Evaluation | None = None
        if judges.against is not None:
            paths = []
            drawings = judges.against()
            for path, _ in stage(drawings, building, "against", size, pool, CHUNK, drawn_only(rules)):
                paths.append(path)
                yield Progress("draw evaluation pictures", len(paths), 0)
            tested = evaluation(sorted(paths), judges.embedder)
        yield Progress("filter", 0, len(table))
        policy, faces = (
            None if judge is None else refused(table, judge) for judge in (judges.policy, judges.faces)
        )
        made = decide(
            table,
            rules,
            embedded=seen_by_clip,
            evaluation=tested,
            faced=faces,
            refused=policy,
            settled=len(before),
        )
        dropped = made.dropped
        tests, later = (
            {source.name for source in inputs if wanted(source)}
            for wanted in (attrgetter("test_only"), attrgetter("train_only"))
        )
        dropped |= _held_out_elsewhere(table, dropped, tests, later)
        places = _split(table, dropped, tests, later)
        dropped |= _held_out_but_seen(table, places, len(before))
        fresh = np.arange(len(table)) >= len(before)
        fresh[[*dropped]] = False
        places = {split: own[fresh[own]] for split, own in places.items()}
        found = Counter(
            {count["values"]: count["counts"] for count in pc.value_counts(table["source"]).to_pylist()}
        )
        found.update(left.source for source in inputs for left in source.left_out)

        def left_out() -> Iterator[LeftOut]:
            yield from chain.from_iterable(source.left_out for source in inputs)
            yield from (dropped[index] for index in sorted(dropped))

        if not any(map(len, places.values())) and known is None:
            reasons = "; ".join(outcome.reasons(left_out()))
            raise DataError(f"no picture is left of {found.total():,}: {reasons}")
        chosen = _choose_large(table, places[Split.TRAIN], large)
        drawings = _large_drawings(table, chosen)
        done, larger = 0, []
        for path, count in stage(drawings, building, "large", LARGE_SIDE, pool, LARGE_CHUNK):
            larger.append(path)
            done += count
            yield Progress("draw large", done, len(chosen))
        firsts = _next_shards(out) if known else {}
        records = yield from _write_shards(building / SHARDS, table, places, chosen, larger, made, firsts)
        records = grouped(records, groups or {})
        if known:
            records = pa.concat_tables([pq.read_table(manifest).cast(MANIFEST), records])
        if growing:
            part = known.parts if known else 0
            keep(
                building / KNOWN,
                table,
                dropped,
                growing,
                first=len(before),
                part=part,
                embedded=seen_by_clip,
            )
        outcome.write(building / DROPPED_FILE, left_out())
        if judges.report:
            yield Progress("report", 0, 1)
            report.write(building / REPORT, title, table, made, rules, left_out())
        text = card.write(title, records, found, left_out())
        _publish(out, building, records, text, identity, anew=known is None)
        shutil.rmtree(building)


def _staged(
    source: Input,
    building: Path,
    number: int,
    size: int,
    pool: DrawingPool,
    rules: Rules,
    known: Known | None,
) -> Generator[Progress, None, list[Path]]:
    """Draws one source, but for what is known, yielding progress, and returns the files in their order."""
    done, paths = 0, []
    name = f"{number:02d}-{source.name}"
    drawings = known.new(source.drawings()) if known else source.drawings()
    for path, count in stage(drawings, building, name, size, pool, CHUNK, rules):
        paths.append(path)
        done += count
        yield Progress(f"draw {source.name}", done, 0)
    yield Progress(f"draw {source.name}", done, done)
    return sorted(paths)


def _pool(workers: int, ray: str) -> AbstractContextManager[DrawingPool]:
    if not ray:
        return drawing_pool(workers)
    from unclip.data.ray_pool import ray_pool  # of the extra `cluster`

    return ray_pool(ray, workers)


def _next_shards(out: Path) -> dict[str, int]:
    """The number of the next shard of each split."""
    firsts: dict[str, int] = {}
    for path in out.glob("*.tar"):
        if OWN_SHARD.fullmatch(path.name):
            name, _, number = path.stem.rpartition("-")
            firsts[name] = max(firsts.get(name, 0), int(number) + 1)
    return firsts


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write into {out} ({write_failure(error, out)}): make room, and the same command goes on"
        ) from error


def grouped(records: pa.Table, groups: Mapping[str, tuple[str, str]]) -> pa.Table:
    """A manifest with the group and subgroup of every picture's concept, "" where it has none."""
    own = [groups.get(concept, ("", "")) for concept in records["concept"].to_pylist()]
    schema = WEIGHTED if WEIGHT in records.column_names else MANIFEST
    columns = {name: records[name] for name in schema.names if name not in GROUPS}
    columns |= {name: pa.array([pair[k] for pair in own], pa.string()) for k, name in enumerate(GROUPS)}
    return pa.table({name: columns[name] for name in schema.names}, schema)


def _add_groups(manifest: Path, groups: Mapping[str, tuple[str, str]]) -> None:
    """Gives a manifest its groups where it was written before there were any."""
    schema = pq.read_schema(manifest)
    if not set(GROUPS) <= set(schema.names):
        records = grouped(pq.read_table(manifest), groups)
        _write_manifest(manifest, records, schema.metadata[IDENTITY].decode())


def _write_manifest(manifest: Path, records: pa.Table, identity: str) -> None:
    with atomic_path(manifest) as temporary:
        pq.write_table(records.replace_schema_metadata({IDENTITY: identity}), temporary, compression="zstd")


def identity_of(manifest: Path) -> str:
    """The sources and settings of the corpus with this manifest; empty if the manifest does not say."""
    try:
        return (pq.read_schema(manifest).metadata or {}).get(IDENTITY, b"").decode()
    except (OSError, pa.ArrowException):  # it is damaged, and made again
        return ""


def _begin(building: Path, plan: str) -> None:
    """Makes the folder to draw in, empty unless it was begun for the same plan."""
    begun = building / "plan"
    if begun.exists() and begun.read_text() != plan:
        shutil.rmtree(building)
    building.mkdir(parents=True, exist_ok=True)
    sweep(building)
    begun.write_text(plan)


Places = Mapping[Split, np.ndarray]  # int64 positions by split, in the order in which the corpus has them


def _split(
    table: pa.Table, dropped: Mapping[int, Any], test_sources: set[str], train_sources: set[str]
) -> Places:
    """The pictures of each split, mixed."""
    splits = _splits(table, dropped, test_sources, train_sources)
    splits[_of_sources(table, train_sources) & (splits == NEITHER)] = NUMBERS[Split.TRAIN]
    splits[[*dropped]] = NEITHER
    kept = np.flatnonzero(splits != NEITHER)
    mixed = kept[order(rows_of(table, ["key"], kept)["key"].to_pylist())]
    return {split: mixed[splits[mixed] == number] for split, number in NUMBERS.items()}


NEITHER = -1
NUMBERS: Mapping[Split, int] = {split: number for number, split in enumerate(Split)}


def _splits(
    table: pa.Table, dropped: Mapping[int, Any], test_sources: set[str], train_sources: set[str]
) -> np.ndarray:
    """int8 (N,): the number of the split of every picture that is kept, but for those of sources that are all
    trained on, which have `NEITHER`.
    """
    kept = ~_of_sources(table, train_sources)
    kept[[*dropped]] = False
    concepts, styles = (pc.dictionary_encode(table[name].combine_chunks()) for name in ("concept", "style"))
    concept, style = (column.indices.to_numpy() for column in (concepts, styles))
    named = styles.dictionary.to_pylist()
    tests = {named[code] for code in np.unique(style[kept & _of_sources(table, test_sources)])}
    numbers = concept.astype(np.int64) * max(1, len(named)) + style
    pairs, which = np.unique(numbers[kept], return_inverse=True)
    words = concepts.dictionary.take(pa.array(pairs // max(1, len(named)))).to_pylist()
    both = list(zip(words, (named[code] for code in pairs % max(1, len(named))), strict=True))
    found = split_pairs(set(both), tests)
    splits = np.full(len(table), NEITHER, np.int8)
    splits[kept] = np.array([NUMBERS[found[pair]] for pair in both], np.int8)[which]
    return splits


def _of_sources(table: pa.Table, sources: set[str]) -> np.ndarray:
    """bool (N,): the pictures of some sources."""
    return pc.is_in(table["source"], pa.array([*sources], pa.string())).to_numpy()


def _held_out_elsewhere(
    table: pa.Table, dropped: dict[int, Any], test_sources: set[str], train_sources: set[str]
) -> dict[int, LeftOut]:
    """Pictures of sources that are all trained on, of what is held out of the others.

    Held out are a concept, a concept in the picture's own style, a name of a concept that ends the picture's
    name ("circus elephant" where the elephant is held out), and the very picture under another name.
    """
    if not train_sources:
        return {}
    columns = ("concept", "style", "source", "key", "captions")
    concepts, styles, sources, keys, captions = (table[name].to_pylist() for name in columns)
    splits = _splits(table, dropped, test_sources, train_sources)
    own = [k for k in range(len(table)) if k not in dropped and sources[k] in train_sources]
    held_out = np.flatnonzero((splits != NEITHER) & (splits != NUMBERS[Split.TRAIN])).tolist()
    pairs = {(concepts[index], styles[index]) for index in held_out}
    named = {
        slug(name): index
        for index in held_out
        if splits[index] == NUMBERS[Split.UNSEEN_CONCEPTS]
        for name in load_captions(captions[index]).get("en", ())[:1]
    }

    def reason(index: int) -> str:
        if is_unseen_concept(concepts[index]):
            return "the concept is held out"
        if (concepts[index], styles[index]) in pairs:
            return "the concept is held out in this style"
        words = slug(load_captions(captions[index]).get("en", [""])[0]).split("-")
        ends = ("-".join(words[start:]) for start in range(len(words)))
        shown = next((named[end] for end in ends if end in named), None)
        return "" if shown is None else f"shows what {keys[shown]} shows, which is held out"

    found = {index: text for index in own if (text := reason(index))}
    twins = seen(Reduced(table, own), Reduced(table, held_out))
    for place, twin in twins.items():
        found.setdefault(own[place], f"the same as {keys[held_out[twin]]}, which is held out")
    return {index: LeftOut(sources[index], keys[index], "held out", text) for index, text in found.items()}


def _held_out_but_seen(table: pa.Table, places: Places, settled: int) -> dict[int, LeftOut]:
    """Held-out pictures of which the same, under another style or name, is trained on; of the `settled` first
    rows, which stay, in their place the ones that would be trained on.
    """
    train = places[Split.TRAIN]
    held_out = np.concatenate([places[split] for split in (Split.UNSEEN_PAIRS, Split.UNSEEN_CONCEPTS)])
    twins = seen(Reduced(table, held_out), Reduced(table, train))
    sources, keys = table["source"], table["key"]
    found: dict[int, LeftOut] = {}
    for place, twin in twins.items():
        index, other = int(held_out[place]), int(train[twin])
        if index < settled:
            index, other = other, index
        if index >= settled:
            told = f"the same as {keys[other].as_py()}"
            found[index] = LeftOut(sources[index].as_py(), keys[index].as_py(), "held out but seen", told)
    return found


def _choose_large(table: pa.Table, train: np.ndarray, count: int) -> list[int]:
    """The `count` vector drawings to train on with the smallest hashes: more of them add to fewer."""
    if not count:
        return []
    able = table["vector"].to_numpy() & ~_of_sources(table, {SCENES, FACES})
    own = train[able[train]].tolist()
    return sorted(own, key=lambda index: share("large", table["key"][index].as_py()))[:count]


def _large_drawings(table: pa.Table, chosen: list[int]) -> Iterator[Drawing]:
    for row in rows_of(table, ["key", "svg", "fit"], chosen).to_pylist():
        yield Drawing(
            key=row["key"], svg=row["svg"], fit=Fit(row["fit"]), captions={"en": ["-"]}, concept="-",
            source="", style="", licence="", author="",
        )  # fmt: skip


def _write_shards(
    folder: Path,
    table: pa.Table,
    places: Places,
    chosen: list[int],
    larger: list[Path],
    made: Decisions,
    firsts: Mapping[str, int],
) -> Generator[Progress, None, pa.Table]:
    """Writes all shards into `folder`, yielding progress, and returns the manifest. `firsts` are the numbers
    of the first shards of splits, 0 for others.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()

    def samples(split: Split) -> Iterator[tuple[str, memoryview, dict[str, Any]]]:
        own = places[split].tolist()
        for start in range(0, len(own), READ):
            part = own[start : start + READ]
            read = rows_of(table, ["key", *METADATA, "captions"], part).to_pylist()
            for index, row in zip(part, read, strict=True):
                captions, row["names"] = made.captions.get(index, (row["captions"], row["names"]))
                metadata = {name: row[name] for name in METADATA}
                picture = memoryview(table["png"][index].as_buffer())  # not read before it is written
                yield row["key"], picture, metadata | {"captions": load_captions(captions)}

    placed, whole = _Placed(), sum(map(len, places.values()))
    for split in Split:
        for place in write_shards(folder, split.value, samples(split), first=firsts.get(split.value, 0)):
            placed.append(place)
            if len(placed.shards) % 1000 == 0:
                yield Progress("write", len(placed.shards), whole)
    large: dict[int, Placed] = {}
    if chosen:
        drawn = open_staged(larger)["png"]
        empty: dict[str, Any] = {}
        there = [place for place, whole in enumerate(drawn.is_valid().to_pylist()) if whole]
        again = ((table["key"][chosen[place]].as_py(), drawn[place].as_py(), empty) for place in there)
        written = write_shards(folder, LARGE_SHARD, again, LARGE_PER_SHARD)
        large = dict(zip((chosen[place] for place in there), written, strict=True))
    yield Progress("write", whole, whole)
    return _manifest(table, places, placed, large, made)


class _Placed:
    """The places of very many pictures."""

    def __init__(self) -> None:
        self.shards: list[str] = []
        self.offsets, self.sizes = array("q"), array("q")

    def append(self, place: Placed) -> None:
        """Adds one at the end."""
        self.shards.append(place.shard)  # the same text for all of a shard
        self.offsets.append(place.offset)
        self.sizes.append(place.size)


def _manifest(
    table: pa.Table,
    places: Places,
    placed: _Placed,
    large: dict[int, Placed],
    made: Decisions,
) -> pa.Table:
    indices = np.concatenate([places[split] for split in Split])
    names = ["key", *METADATA, "captions", "width", "vector"]
    columns: dict[str, Any] = {name: rows_of(table, [name], indices)[name] for name in names}
    if made.captions:
        kept = zip(
            indices.tolist(), *(columns[name].to_pylist() for name in ("captions", "names")), strict=True
        )
        changed = [made.captions.get(index, (captions, more)) for index, captions, more in kept]
        columns["captions"] = [captions for captions, _ in changed]
        columns["names"] = [more for _, more in changed]
    columns["split"] = [split.value for split in Split for _ in range(len(places[split]))]
    bigger = [large.get(index) for index in indices.tolist()]
    columns["large"] = [big is not None for big in bigger]
    columns |= {"shard": placed.shards, "offset": placed.offsets, "size": placed.sizes}
    for name in ("shard", "offset", "size"):
        columns[f"large_{name}"] = [getattr(big, name, None) for big in bigger]
    columns |= {name: [""] * len(indices) for name in GROUPS}
    if made.weights is not None:
        columns[WEIGHT] = made.weights[indices]
    schema = MANIFEST if made.weights is None else WEIGHTED
    return pa.table({name: columns[name] for name in schema.names}, schema)


def _publish(
    out: Path, building: Path, records: pa.Table, card_text: str, identity: str, *, anew: bool
) -> None:
    """Puts the new files in the place of the old ones, or where the corpus has grown (not `anew`) beside the
    old shards. While old ones go there is no manifest; new ones count when the manifest names them.
    """
    if anew:
        (out / MANIFEST_FILE).unlink(missing_ok=True)
        for old in out.glob("*.tar"):
            if OWN_SHARD.fullmatch(old.name):
                old.unlink()
        forget(out)
    shutil.rmtree(out / CACHE, ignore_errors=True)
    shutil.rmtree(out / REPORT, ignore_errors=True)
    if (building / KNOWN).is_dir():
        (out / KNOWN).mkdir(exist_ok=True)
        for path in sorted((building / KNOWN).iterdir()):
            path.rename(out / KNOWN / path.name)
    for path in (*sorted((building / SHARDS).iterdir()), building / DROPPED_FILE):
        path.rename(out / path.name)
    if (building / REPORT).is_dir():
        (building / REPORT).rename(out / REPORT)
    with atomic_path(out / CARD_FILE) as temporary:
        temporary.write_text(card_text, encoding="utf-8")
    _write_manifest(out / MANIFEST_FILE, records, identity)
