"""Promises of what is kept: whole or not at all, and no longer than its owner wants."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from unclip.errors import UnclipError
from unclip.serve.admission import Admission
from unclip.serve.errors import ApiError
from unclip.serve.jobs import Job, State, Stored, Wanted
from unclip.serve.store import Store

DAY = 86400.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def picture(store: Store, id: str, **changes: object) -> Stored:
    file = store.write(id, "png", b"x" * 1000)
    made = Stored(
        id=id,
        job="job_1",
        owner="anna",
        position=0,
        file=file,
        format="png",
        bytes=1000,
        width=64,
        height=64,
        seed=2**64 - 1,
        number=0,
        score=0.5,
        prompt="a red apple",
        bundle="tiny",
        settings={"size": "64"},
        created=time.time(),
    )
    return replace(made, **changes)


def test_every_commit_is_on_the_disk(store: Store) -> None:
    assert store._rows("pragma synchronous")[0][0] == 2  # FULL
    assert store._rows("pragma journal_mode")[0][0] == "wal"


def test_a_job_comes_back_as_it_was_kept(store: Store, tmp_path: Path) -> None:
    job = Job("job_1", "anna", "edit", "tiny", "빨간 사과", kept=True, request={"seed": 2**64 - 1})
    store.add(job, {"image": [b"a", b"b"], "mask": [b"c"]})
    store.close()
    again = Store(tmp_path)
    assert again.unfinished() == [job]
    assert again.given("job_1") == {"image": (b"a", b"b"), "mask": (b"c",)}
    again.end("job_1", State.DONE, [picture(again, "pic_1")])
    assert again.given("job_1") == {}
    (stored,) = again.of_job("job_1")
    assert stored.seed == 2**64 - 1
    assert stored.settings == {"size": "64"}


def test_a_job_ends_once(store: Store) -> None:
    store.add(Job("job_1", "", "generate", "tiny"))
    store.end("job_1", State.DONE, [picture(store, "pic_1")])
    store.end("job_1", State.FAILED, [picture(store, "pic_2")], {"message": "late"})
    job = store.job("job_1", "")
    assert job is not None
    assert (job.state, job.error) == (State.DONE, None)
    assert [one.id for one in store.of_job("job_1")] == ["pic_1"]


def test_what_nobody_kept_is_cancelled_after_a_crash(store: Store) -> None:
    store.add(Job("job_1", "", "generate", "tiny"))
    store.add(Job("job_2", "", "generate", "tiny", kept=True))
    assert [job.id for job in store.unfinished()] == ["job_2"]
    job = store.job("job_1", "")
    assert job is not None
    assert job.state is State.CANCELLED


def test_pictures_go_when_their_time_is_over_and_starred_ones_stay(store: Store) -> None:
    now = time.time()
    store.add(Job("job_1", "anna", "generate", "tiny", created=now - 9 * DAY))
    kept = [
        picture(store, "old", created=now - 9 * DAY),
        picture(store, "starred", created=now - 9 * DAY),
        picture(store, "new", created=now - 1),
        picture(store, "address", expires=now - 1),
        picture(store, "binned", created=now - 2),
    ]
    store.end("job_1", State.DONE, kept)
    store.add(Job("job_2", "anna", "generate", "tiny", "a secret"))
    store.end("job_2", State.DONE)
    store._rows("update jobs set ended = ended - 90000 where id = 'job_2'")
    store.change("starred", "anna", starred=1)
    store.change("binned", "anna", deleted=now - 8 * DAY)
    assert store.sweep(days=7, most_bytes=None, bin_days=7) == 3
    assert {one.id for one in store.library("anna", 9)} == {"starred", "new"}
    assert store.job("job_2", "anna") is None  # nobody kept it
    assert {path.name for path in store.pictures.iterdir()} == {"starred.png", "new.png"}
    assert store.sweep(days=None, most_bytes=1500, bin_days=7) == 1
    assert [one.id for one in store.library("anna", 9)] == ["starred"]


def test_files_that_a_crash_left_are_swept_when_they_are_old(store: Store) -> None:
    path = store.pictures / store.write("left", "png", b"x")
    store.sweep(None, None, 7)
    assert path.exists()  # its job may be about to end
    os.utime(path, (time.time() - 2 * DAY,) * 2)
    store.sweep(None, None, 7)
    assert not path.exists()


def test_a_folder_that_is_no_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_text("no database at all, but long enough to look at" * 20)
    with pytest.raises(UnclipError, match="give another folder"):
        Store(tmp_path)


def test_texts_are_never_part_of_a_query(store: Store) -> None:
    store.add(Job("job_1", "anna", "generate", "tiny"))
    store.end("job_1", State.DONE, [picture(store, "pic_1", prompt='it\'s 100% "red"')])
    assert len(store.library("anna", 9, Wanted('\'s 100% "RED"'))) == 1
    assert store.library("anna", 9, Wanted("' or 1=1 --")) == []
    assert store.library("' or 1=1 --", 9) == []
    with pytest.raises(sqlite3.IntegrityError):
        store.add(Job("job_1", "anna", "generate", "tiny"))


# --- admission ---


def test_jobs_work_and_shares_are_bounded_and_given_back() -> None:
    admission = Admission(most_jobs=3, most_work=100, most_each=2, rate=10)
    admission.enter("anna", 30)
    admission.enter("anna", 30)
    with pytest.raises(ApiError, match="2 of your jobs wait") as refusal:
        admission.enter("anna", 1)
    assert refusal.value.status == 429
    assert refusal.value.more["estimated_seconds"] == 6.0
    with pytest.raises(ApiError, match="too much to draw"):
        admission.enter("ben", 41)
    admission.enter("ben", 40)
    with pytest.raises(ApiError, match="3 jobs wait"):
        admission.enter("carl", 0)
    for who, work in (("anna", 30), ("anna", 30), ("ben", 40)):
        admission.leave(who, work)
    assert (admission.jobs, admission.work, dict(admission._each)) == (0, 0, {})
    assert admission.refused == 3


@pytest.mark.parametrize("wait", [0.1, 50, 10_000])
def test_retry_after_is_between_a_second_and_a_minute(wait: float) -> None:
    admission = Admission(most_jobs=1, most_work=10**9, rate=1)
    admission.enter("anna", int(wait))
    with pytest.raises(ApiError) as refusal:
        admission.enter("ben", 1)
    assert 1 <= int(refusal.value.headers["retry-after"]) <= 60


def test_the_estimate_of_a_kind_follows_what_came_of_it() -> None:
    """Small pictures wait longer beside large ones than their work tells; large ones do not."""
    admission = Admission()
    assert admission.expected("small", 1.0) == 1.0
    for _ in range(30):
        admission.came("large", 2.0, 2.0)
    for _ in range(30):
        admission.came("small", 0.5, 2.0)
    assert admission.expected("small", 0.5) == pytest.approx(2.0, rel=0.05)
    assert admission.expected("large", 2.0) == pytest.approx(2.0, rel=0.05)
    assert 1 < admission.expected("unknown", 1.0) <= 4


def test_the_estimate_follows_what_is_measured() -> None:
    admission = Admission(rate=1000)
    for _ in range(40):
        admission.measured(500, 1.0)
    assert admission.seconds(1000) == pytest.approx(2.0, rel=0.01)


def test_a_folder_of_an_earlier_version_is_taken_on(tmp_path: Path) -> None:
    """Without digests and parents of pictures, and without boards."""
    store = Store(tmp_path)
    store.add(Job("job_1", "anna", "generate", "tiny"))
    store.end("job_1", State.DONE, [picture(store, "pic_1")])
    store.change("pic_1", "anna", board="fruit")
    for statement in (
        "drop index pictures_digest",
        "drop table boards",
        "alter table pictures drop column digest",
        "alter table pictures drop column parents",
    ):
        store._rows(statement)
    store.close()
    again = Store(tmp_path)
    (found,) = again.library("anna", 9)
    assert (found.digest, found.parents) == ("", ())
    assert again.boards("anna") == [{"name": "fruit", "count": 1, "cover": "pic_1"}]
