"""Promises of a streamed corpus: pictures are those of the folder, the cache is bounded, errors are clear."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from support.file_server import FileServer
from support.sharded_corpus import BUCKET, build_sharded, in_s3, on_the_web
from unclip.data import store
from unclip.data.corpus import EVERYTHING, Corpus
from unclip.data.records import MANIFEST_FILE, Split
from unclip.data.store import Cache, Span, Store
from unclip.data.streamed import StreamedCorpus, opened
from unclip.errors import DataError, InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sharded(tmp_path_factory.mktemp("corpus") / "sharded")


@pytest.fixture(scope="module")
def s3(folder: Path) -> Iterator[str]:
    with in_s3(folder) as address:
        yield address


@pytest.fixture
def web(folder: Path) -> Iterator[tuple[FileServer, str]]:
    with on_the_web(folder) as served:
        yield served


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "FIRST_WAIT", 0.001)


def streamed(address: str, cache: Path, limit: int = 10**9) -> StreamedCorpus:
    corpus = opened(address, Split.TRAIN, Cache(cache, limit))
    assert isinstance(corpus, StreamedCorpus)
    return corpus


def shard(corpus: Corpus) -> str:
    return str(corpus.column("shard")[0])


def on_disk(folder: Path) -> int:
    """Bytes of the shards in a folder, those that are still coming included."""
    total = 0
    for path in folder.rglob("*.tar"):
        with suppress(FileNotFoundError):  # it has got its name meanwhile
            total += path.stat().st_size
    return total


def largest(folder: Path) -> int:
    return max(path.stat().st_size for path in folder.glob("*.tar"))


@pytest.mark.parametrize("split", [*Split, EVERYTHING])
def test_pictures_and_captions_from_s3_are_those_of_the_folder(
    split: str, folder: Path, s3: str, tmp_path: Path
) -> None:
    here, there = Corpus(folder, split), opened(s3, split, Cache(tmp_path))
    assert len(there) == len(here)
    assert [there.captions(k) for k in range(len(there))] == [here.captions(k) for k in range(len(here))]
    pixels, chosen = there.pixels(32), np.arange(len(here))[::-1]
    assert pixels.shape == here.pixels(32).shape
    assert (pixels[chosen] == here.pixels(32)[chosen]).all()
    assert (pixels[2:9] == here.pixels(32)[2:9]).all()
    assert len(pixels[chosen < 0]) == 0
    if len(here):
        assert (pixels[0] == here.pixels(32)[0]).all()
        assert there.colours[0] == here.colours[0]


def test_pictures_from_the_web_are_those_of_the_folder(
    folder: Path, web: tuple[FileServer, str], tmp_path: Path
) -> None:
    corpus = streamed(web[1], tmp_path)
    corpus.check_files()
    assert (corpus.pixels(64)[:] == Corpus(folder).pixels(64)).all()
    assert np.asarray(corpus.image(3)).tolist() == np.asarray(Corpus(folder).image(3)).tolist()


def test_a_few_pictures_are_fetched_without_their_shards(web: tuple[FileServer, str], tmp_path: Path) -> None:
    server, address = web
    corpus = streamed(address, tmp_path)
    corpus.pixels(64)[[0]]
    asked = server.ranges(f"/corpus/{shard(corpus)}")
    assert any(asked)
    assert corpus.store.cached_bytes == 0


def test_the_cache_never_holds_more_than_it_may(folder: Path, s3: str, tmp_path: Path) -> None:
    limit = 3 * largest(folder)
    corpus = streamed(s3, tmp_path, limit)
    order, pixels, expected = corpus.order(corpus.weights()), corpus.pixels(64), Corpus(folder).pixels(64)
    for step in range(60):
        positions = order.positions(0, step, range(4), 4, 1)
        assert (pixels[positions] == expected[positions]).all()
        assert corpus.store.cached_bytes <= limit
        assert on_disk(corpus.store.folder) <= limit


def test_shards_that_come_next_are_fetched_before(
    folder: Path, web: tuple[FileServer, str], tmp_path: Path
) -> None:
    server, address = web
    corpus = streamed(address, tmp_path)
    order = corpus.order(corpus.weights())
    order.positions(0, 0, range(4), 4, 1)
    names = [*corpus.store._kept]
    assert len(names) == 4  # a window, and the next
    for future in corpus.store._kept.values():
        future.result()
    before = len(server.requests)
    corpus.store.read([Span(name, 0, 100) for name in names])
    assert len(server.requests) == before


def test_a_cache_that_is_too_small_is_refused_and_told_how_large_it_must_be(
    folder: Path, s3: str, tmp_path: Path
) -> None:
    corpus = streamed(s3, tmp_path, limit=10_000)
    with pytest.raises(DataError, match=r"cache of 10,000 bytes .* Give --cache-size 0.\d+ \(GB\) or more"):
        corpus.check_room(lanes=4, batch=8, processes=1)
    streamed(s3, tmp_path, limit=8 * largest(folder)).check_room(lanes=4, batch=8, processes=1)
    streamed(s3, tmp_path, limit=2 * largest(folder)).check_room(lanes=4, batch=8, processes=4)


def test_processes_of_one_machine_share_the_limit(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert streamed(s3, tmp_path, limit=4000).store.limit == 1000


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (f"s3://{BUCKET}-that-is-not-there/corpus", "is no corpus that can be read: .* is not there"),
        (f"s3://{BUCKET}/nothing", "is no corpus that can be read: .* is not there"),
    ],
)
def test_a_bucket_or_a_folder_that_is_missing_is_said(
    s3: str, address: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        streamed(address, tmp_path)


def test_what_may_not_be_read_asks_for_credentials(web: tuple[FileServer, str], tmp_path: Path) -> None:
    server, address = web
    server.status[f"/corpus/{MANIFEST_FILE}"] = 403
    with pytest.raises(DataError, match="credentials"):
        streamed(address, tmp_path)


@pytest.mark.parametrize("address", ["ftp://host/corpus", "s4://bucket/corpus"])
def test_an_address_of_another_kind_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"begins with s3://, gs://, hf://, https://"):
        streamed(address, tmp_path)


def test_a_shard_that_is_cut_off_or_gone_is_refused_before_training(
    web: tuple[FileServer, str], tmp_path: Path
) -> None:
    server, address = web
    corpus = streamed(address, tmp_path)
    path = f"/corpus/{shard(corpus)}"
    server.files[path] = server.files[path][:4000]
    with pytest.raises(DataError, match=r"is cut off: it has 4,000 bytes, and its pictures end at"):
        corpus.check_files()
    del server.files[path]
    with pytest.raises(DataError, match=r"-00000.tar is not there: copy the corpus there anew"):
        corpus.check_files()


def test_a_transfer_that_breaks_off_is_tried_again(
    folder: Path, web: tuple[FileServer, str], tmp_path: Path
) -> None:
    server, address = web
    corpus = streamed(address, tmp_path)
    server.breaks[f"/corpus/{shard(corpus)}"] = 3000
    assert (corpus.pixels(64)[:] == Corpus(folder).pixels(64)).all()


def test_a_server_that_is_down_is_said_after_some_tries(web: tuple[FileServer, str], tmp_path: Path) -> None:
    server, address = web
    corpus = streamed(address, tmp_path)
    server.status[f"/corpus/{shard(corpus)}"] = 503
    with pytest.raises(DataError, match=r"cannot be fetched, 4 times in a row"):
        corpus.pixels(64)[:]


def test_a_full_disk_is_said(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = streamed(s3, tmp_path)
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
        with pytest.raises(DataError, match=r"is full: .* Make room, or give another folder with --cache"):
            corpus.pixels(64)[:]

    def failing(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)

    monkeypatch.setattr(corpus.store._files, "get_file", failing)
    with pytest.raises(DataError, match=r"cannot write .* \(no space left on device\): make room"):
        corpus.pixels(64)[:]


def test_a_manifest_that_names_files_outside_of_the_corpus_is_refused(s3: str, tmp_path: Path) -> None:
    corpus = streamed(s3, tmp_path)
    for name in ("../secret.tar", "/etc/passwd", "s3://other/x.tar"):
        with pytest.raises(DataError, match="names a file outside of itself"):
            corpus.store.read([Span(name, 0, 10)])


def test_the_fingerprint_changes_with_a_shard(web: tuple[FileServer, str], tmp_path: Path) -> None:
    server, address = web
    before = streamed(address, tmp_path).fingerprint
    assert streamed(address, tmp_path).fingerprint == before
    corpus = streamed(address, tmp_path)
    server.files[f"/corpus/{shard(corpus)}"] += bytes(512)
    assert streamed(address, tmp_path).fingerprint != before


def test_a_cache_goes_with_its_process_and_those_of_killed_ones_are_removed(s3: str, tmp_path: Path) -> None:
    (tmp_path / "open-killed").mkdir()
    first = Store(s3, Cache(tmp_path))
    second = Store(s3, Cache(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {first.folder.name, second.folder.name}
    first.close()
    assert [path.name for path in tmp_path.iterdir()] == [second.folder.name]


def test_a_corpus_in_a_folder_is_opened_as_before(folder: Path) -> None:
    corpus = opened(folder)
    assert type(corpus) is Corpus
    assert corpus.order(corpus.weights()) is None
    assert len({*corpus.column("shard")}) > 5
