"""Promises of searching: what is asked for comes first, filters hold, copies are folded, scores mean much."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unclip.search
from support.colour_clip import Colours
from unclip.errors import InputError
from unclip.search import vectors
from unclip.search.index import Index
from unclip.search.query import Filters, Term
from unclip.search.writer import Writer

NEARLY = 2e-3  # by which cosines of vectors in 16 bits differ


def update(folder: Path, clip: Colours) -> None:
    for _ in Writer(folder, clip, workers=1).run():
        pass


@pytest.fixture
def index(photos: Path, clip: Colours) -> Iterator[Index]:
    update(photos, clip)
    with unclip.search.open(photos, clip=clip) as opened:
        yield opened


def names(index: Index, question: str | Path | Image.Image | list[Term], **options: object) -> list[str]:
    hits = index.query(question, **options)
    return [hit.path.relative_to(index.folder).as_posix() for hit in hits]


def cosines(index: Index, question: str) -> list[float]:
    """Of the nearest twelve: pictures that are equally near may stand for each other."""
    return [hit.cosine for hit in index.query(question, top=12, fold=False)]


def test_the_pictures_of_a_text_come_first_in_any_language(index: Index) -> None:
    for text in ("something red", "빨간 것"):
        assert set(names(index, text, top=2)) == {"a.png", "trip/d.png"}
    assert set(names(index, "green", top=2)) == {"b.jpg", "trip/e.png"}
    assert len(names(index, "red", top=100, fold=False)) == 7


def test_scores_are_a_cosine_and_a_probability_by_a_background(index: Index, clip: Colours) -> None:
    hits = index.query("red", top=7, fold=False)
    assert [hit.cosine for hit in hits] == sorted((hit.cosine for hit in hits), reverse=True)
    picture = clip.embed_images([hits[0].path])[0]
    assert hits[0].cosine == pytest.approx(float(clip.embed_texts(["red"])[0] @ picture), abs=2e-3)
    assert hits[0].probability > 0.99
    assert hits[-1].probability < 0.01
    assert {hit.path.name for hit in index.query("red", threshold=0.9, fold=False)} == {"a.png", "d.png"}
    assert index.query("purple", threshold=0.9) == []


def test_a_picture_finds_itself_and_its_like(index: Index, photos: Path) -> None:
    assert names(index, photos / "c.webp", top=2) == ["c.webp", "trip/day 2/f.png"]
    assert names(index, Image.open(photos / "c.webp"), top=1) == ["c.webp"]
    assert index.query(photos / "c.webp", top=1)[0].cosine == pytest.approx(1, abs=2e-3)
    with pytest.raises(InputError, match="no such picture"):
        index.query("gone.png")


def test_texts_and_pictures_are_added_and_taken_away(index: Index, photos: Path) -> None:
    both = [Term("red"), Term(photos / "b.jpg"), Term("white", wanted=False)]
    found = names(index, both, top=4)
    assert set(found) == {"a.png", "trip/d.png", "b.jpg", "trip/e.png"}
    without = index.query([Term("red"), Term("green", wanted=False)], top=7, fold=False)
    assert {hit.path.name for hit in without[:2]} == {"a.png", "d.png"}
    assert {hit.path.name for hit in without[-2:]} == {"b.jpg", "e.png"}
    assert without[-1].probability < 0.01


def test_filters(photos: Path, clip: Colours, draw: Callable[..., Path]) -> None:
    draw("wide.png", "red", size=(160, 90))
    draw("tall.png", "red", size=(30, 90))
    noon = time.mktime((2020, 2, 3, 12, 0, 0, 0, 0, -1))
    os.utime(photos / "a.png", (noon, noon))
    update(photos, clip)
    with Index(photos, clip=clip) as index:

        def found(**filters: object) -> set[str]:
            return set(names(index, "red", top=20, fold=False, filters=Filters(**filters)))

        assert found(folder="trip") == {"trip/d.png", "trip/e.png", "trip/day 2/f.png"}
        assert found(folder="trip/day 2/") == {"trip/day 2/f.png"}
        assert found(folder="tri") == set()
        assert found(aspect="portrait") == {"tall.png"}
        assert found(aspect="16:9") == {"wide.png"}
        assert found(aspect="square") == set()
        assert found(least_size=100) == {"wide.png"}
        assert found(least_size=90, most_size=90) == {"tall.png"}
        assert found(since=date(2020, 2, 3), until=date(2020, 2, 3)) == {"a.png"}
        assert found(until=date(2020, 2, 2)) == set()
        assert "a.png" not in found(since=date(2020, 2, 4))
        assert found(folder="trip", aspect="landscape", since=date(2021, 1, 1)) == found(folder="trip")


def test_nearly_equal_pictures_count_as_one(photos: Path, clip: Colours) -> None:
    picture = Image.open(photos / "a.png").convert("RGB")
    picture.save(photos / "a again.jpg", quality=90, subsampling=0)
    picture.resize((80, 60)).save(photos / "trip" / "a large.png")
    (photos / "a copy.png").write_bytes((photos / "a.png").read_bytes())
    update(photos, clip)
    with Index(photos, clip=clip) as index:
        red = [hit for hit in index.query("red", top=3) if "a" in hit.path.stem]
        assert len(red) == 1
        group = {red[0].path.name, *(path.name for path in red[0].copies)}
        assert group == {"a.png", "a copy.png", "a again.jpg", "a large.png"}
        assert len(index.query("red", top=20, fold=False)) == 9
        (duplicates,) = index.duplicates()
        assert duplicates[0].name == "a large.png"
        assert {path.name for path in duplicates} == group
        within = index.query("red", top=3, filters=Filters(folder="trip"))
        assert all("trip" in path.parts for hit in within for path in (hit.path, *hit.copies))


def test_thumbnails_are_kept(index: Index, photos: Path) -> None:
    (hit,) = index.query("red", top=1)
    hit.path.unlink()
    thumbnail = index.thumbnail(hit)
    assert thumbnail is not None
    assert thumbnail.size == (40, 30)
    assert thumbnail.getpixel((5, 5))[0] > 150


def test_an_open_index_follows_its_writer(index: Index, photos: Path, clip: Colours) -> None:
    assert len(index.query("white", top=20, fold=False)) == 7
    (photos / "g.bmp").unlink()
    (photos / "a.png").unlink()
    update(photos, clip)
    assert len(index.query("white", top=20, fold=False)) == len(index) == 5


def test_threads_may_share_an_index_while_it_is_written(
    index: Index, photos: Path, clip: Colours, draw: Callable[..., Path]
) -> None:
    failures: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        try:
            while not done.is_set():
                assert len(index.query("red", top=2)) == 2
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(3):
        draw(f"later-{number}.png", "green")
        update(photos, clip)
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(index) == 10


def test_an_empty_folder_finds_nothing(tmp_path: Path, clip: Colours) -> None:
    update(tmp_path, clip)
    with Index(tmp_path, clip=clip) as index:
        assert index.query("red") == []
        assert index.duplicates() == []
        with pytest.raises(InputError, match="top 0"):
            index.query("red", top=0)


def test_texts_are_embedded_once(index: Index, clip: Colours) -> None:
    index.query("red")
    before = len(clip.texts)
    index.query("red", filters=Filters(folder="trip"))
    assert len(clip.texts) == before


def test_a_graph_finds_what_comparing_all_finds(
    photos: Path, clip: Colours, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        draw(f"many/{number:02}.png", ("red", "green", "blue", "white")[number % 4], seed=number)
    update(photos, clip)
    with Index(photos, clip=clip) as index:
        expected = {q: cosines(index, q) for q in ("red", "blue", "green - white")}
    monkeypatch.setattr(vectors, "EXACT", 20)
    update(photos, clip)
    graphs = list((photos / ".unclip-index").glob("graph-*.usearch"))
    assert len(graphs) == 1
    with Index(photos, clip=clip) as index:
        for question, found in expected.items():
            assert cosines(index, question) == pytest.approx(found, abs=NEARLY)
        inside = Filters(folder="trip")
        assert len(names(index, "red", top=12, fold=False, filters=inside)) == 3
        many = names(index, "red", top=40, fold=False, filters=Filters(folder="many"))
        assert len(many) == 40
        assert all(path.startswith("many/") for path in many)

    # one more, which the graph does not have yet, and one that it still has: too few for a new graph
    monkeypatch.setattr(vectors, "STALE", 0.5)
    draw("new.png", "red", seed=99)
    (photos / "a.png").unlink()
    update(photos, clip)
    assert list((photos / ".unclip-index").glob("graph-*.usearch")) == graphs
    with Index(photos, clip=clip) as index:
        found = names(index, "red", top=30, fold=False)
        assert "new.png" in found
        assert "a.png" not in found
    graphs[0].unlink()  # it may still be mapped
    graphs[0].write_bytes(b"damaged" * 100)
    with Index(photos, clip=clip) as index:
        assert "new.png" in names(index, "red", top=30, fold=False)

    # and changed so much that it is made again
    monkeypatch.setattr(vectors, "STALE", 0.02)
    update(photos, clip)
    (graph,) = (photos / ".unclip-index").glob("graph-*.usearch")
    assert graph.stat().st_size > 1000
    monkeypatch.setattr(vectors, "EXACT", 1000)
    update(photos, clip)
    assert not list((photos / ".unclip-index").glob("graph-*.usearch"))


def test_a_large_synthetic_graph_misses_little(tmp_path: Path, clip: Colours) -> None:
    random = np.random.default_rng(0)
    matrix = random.standard_normal((500, 16)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    graph = vectors._graph(16)
    graph.add(np.arange(500, dtype=np.uint64), matrix)
    hits = 0
    for query in matrix[:20]:
        exact, _ = vectors._compared(np.arange(500), matrix.astype(np.float16), query, 10)
        found = np.asarray(graph.search(query, 10).keys)
        hits += len(set(exact.tolist()) & set(found.tolist()))
    assert hits >= 0.95 * 200
