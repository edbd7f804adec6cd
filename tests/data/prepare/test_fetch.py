"""The promise that pictures are fetched as their owners allow, within limits, and never from inside."""

from __future__ import annotations

import csv
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.packages import tar_bytes
from support.picture_site import PictureSite
from support.planted import packed, photograph
from unclip.cli import main
from unclip.data.corpus import Corpus
from unclip.data.folder import Fetched
from unclip.data.prepare import fetch as fetching
from unclip.data.prepare import public_network
from unclip.data.prepare.fetch import Fetcher
from unclip.data.prepare.manners import Manners, read_opt_outs, refusal
from unclip.data.prepare.public_network import is_public
from unclip.errors import InputError

HERE = Manners(private=True, seconds=5, pause=0.01)


@pytest.fixture
def site() -> Iterator[PictureSite]:
    with PictureSite() as site:
        yield site


def fetched(folder: Path, *addresses: str, manners: Manners = HERE) -> list[Fetched]:
    found = list(Fetcher(folder, manners)("table", [(address, address) for address in addresses]))
    assert [address for address, _ in found] == list(addresses)
    return [one for _, one in found]


def test_pictures_come_in_the_order_of_their_addresses(site: PictureSite, tmp_path: Path) -> None:
    found = fetched(tmp_path, *(site.url(f"{number}.jpg") for number in range(20)))
    assert [one.content for one in found] == [packed(photograph(number)) for number in range(20)]
    assert site.most_at_once <= fetching.PER_HOST
    (agent,) = site.agents
    assert agent.startswith("unclip/")


@pytest.mark.parametrize(
    ("robots", "reason", "detail"),
    [
        ("User-agent: *\nDisallow: /", "robots.txt", "it forbids this address"),
        ("User-agent: unclip\nDisallow: /1.jpg", "robots.txt", "it forbids this address"),
        ("User-agent: other\nDisallow: /", "", ""),
        ("User-agent: *\nDisallow: /\n\nUser-agent: unclip\nAllow: /", "", ""),
        (None, "", ""),
        (403, "", ""),
        (500, "robots.txt", "it cannot be read: status 500"),
    ],
)
def test_robots_txt_is_obeyed(
    site: PictureSite, tmp_path: Path, robots: str | int | None, reason: str, detail: str
) -> None:
    site.robots = robots
    (one,) = fetched(tmp_path, site.url("1.jpg"))
    assert (one.reason, one.detail) == (reason, detail)
    assert site.asked["1.jpg"] == (0 if reason else 1)
    assert site.asked["robots.txt"] == 1


def test_a_crawl_delay_is_kept(site: PictureSite, tmp_path: Path) -> None:
    site.robots = "User-agent: *\nCrawl-delay: 0.1"
    start = time.monotonic()
    assert all(one.content for one in fetched(tmp_path, *(site.url(f"{number}.jpg") for number in range(4))))
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize(
    ("header", "refused"),
    [
        ("X-Robots-Tag=noai", "X-Robots-Tag: noai"),
        ("X-Robots-Tag=max-snippet,NoImageAI", "X-Robots-Tag: noimageai"),
        ("X-Robots-Tag=unclip:noindex", "X-Robots-Tag: noindex"),
        ("X-Robots-Tag=otherbot:noai", ""),
        ("X-Robots-Tag=all", ""),
        ("tdm-reservation=1", "tdm-reservation: 1"),
        ("tdm-reservation=0", ""),
    ],
)
def test_headers_that_opt_out_are_obeyed(
    site: PictureSite, tmp_path: Path, header: str, refused: str
) -> None:
    (one,) = fetched(tmp_path, site.url(f"tagged/{header}"))
    assert (one.reason, one.detail) == (("opted out", refused) if refused else ("", ""))
    (one,) = fetched(tmp_path / "own", site.url(f"tagged/{header}"), manners=replace(HERE, robots=False))
    assert one.content


def test_a_directive_may_stand_in_any_of_several_headers() -> None:
    assert refusal([(b"X-Robots-Tag", b"all"), (b"x-robots-tag", b"noai")]) == "X-Robots-Tag: noai"


def test_opt_out_lists_name_hosts_and_addresses(site: PictureSite, tmp_path: Path) -> None:
    listed = tmp_path / "opted-out.txt"
    listed.write_text(f"# those who asked\n*.Example.org\n{site.url('1.jpg')}  \nlocalhost # all of it\n\n")
    manners = replace(HERE, opted_out=read_opt_outs([listed]))
    addresses = [site.url("1.jpg"), site.url("2.jpg"), site.url("3.jpg", "localhost")]
    found = fetched(tmp_path / "kept", *addresses, "http://images.example.org/a.png", manners=manners)
    assert [one.reason for one in found] == ["opted out", "", "opted out", "opted out"]
    assert site.asked["1.jpg"] == site.asked["3.jpg"] == 0
    with pytest.raises(InputError, match="cannot read the opt-out list"):
        read_opt_outs([tmp_path / "nowhere"])


def test_what_is_too_large_or_too_slow_is_given_up(site: PictureSite, tmp_path: Path) -> None:
    manners = replace(HERE, most_bytes=50_000, seconds=0.5)
    start = time.monotonic()
    large, slow = fetched(tmp_path, site.url("endless"), site.url("slow"), manners=manners)
    assert (large.reason, large.detail) == ("too many bytes", "more than 50,000")
    assert slow.reason == "not fetched"
    assert "0.5 seconds" in slow.detail or "timed out" in slow.detail
    assert time.monotonic() - start < 3
    (said,) = fetched(tmp_path / "b", site.url("1.jpg"), manners=replace(HERE, most_bytes=100))
    assert said.reason == "too many bytes"


def test_what_may_pass_is_tried_again_and_what_will_not_is_not(site: PictureSite, tmp_path: Path) -> None:
    busy, gone, broken, cut = fetched(
        tmp_path, site.url("busy"), site.url("status/404"), site.url("status/500"), site.url("cut")
    )
    assert busy.content
    assert (gone.reason, gone.detail) == ("not fetched", "status 404")
    assert (broken.reason, broken.detail) == ("not fetched", "status 500")
    assert cut.reason == "not fetched"
    assert (site.asked["busy"], site.asked["status/404"], site.asked["status/500"]) == (3, 1, 3)


@pytest.mark.parametrize(
    "address",
    ["ftp://example.org/a.png", "file:///etc/passwd", "http://", "http://[", "data:image/png;base64,AA"],
)
def test_what_is_no_address_of_the_web_is_refused(tmp_path: Path, address: str) -> None:
    (one,) = fetched(tmp_path, address)
    assert one.content is None
    assert one.reason in ("not fetched", "robots.txt")  # there is no such host, or no host at all


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0.0.0.0", "[::1]"])
def test_this_machine_is_not_asked_unless_it_is_allowed(site: PictureSite, tmp_path: Path, host: str) -> None:
    (one,) = fetched(tmp_path, site.url("1.jpg", host), manners=replace(HERE, private=False))
    assert one.content is None
    assert one.reason in ("private address", "not fetched", "robots.txt")
    assert not site.asked


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "2002:a00:1::", "64:ff9b::a00:1", "224.0.0.1",
        "255.255.255.255", "not an address",
    ],
)  # fmt: skip
def test_private_addresses_are_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(address)


def named(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]) -> list[str]:
    """Names that mean these addresses, one after the other; returns the list of names that were asked for."""
    asked: list[str] = []
    plain = socket.getaddrinfo

    def lookup(host: str, port: int, *arguments: Any, **options: Any) -> Any:
        if host in names:
            asked.append(host)
            host = names[host].pop(0) if len(names[host]) > 1 else names[host][0]
        return plain(host, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return asked


def test_a_redirect_into_a_private_network_is_refused(
    site: PictureSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = PictureSite()
    monkeypatch.setattr(public_network, "is_public", lambda address: address == "127.0.0.1")
    named(monkeypatch, {"inside.example": ["127.0.0.2"]})
    with inside:
        (one,) = fetched(
            tmp_path, site.url(f"to/http://inside.example:{inside.port}/1.jpg"),
            manners=replace(HERE, private=False),
        )  # fmt: skip
    assert (one.reason, one.detail) == ("private address", "inside.example is 127.0.0.2")
    assert not inside.asked


def test_a_name_that_comes_to_mean_another_machine_gains_nothing(
    site: PictureSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: each look-up is judged, and what was judged is connected to, without another one."""
    connected: list[str] = []
    plain = socket.create_connection

    def connect(address: tuple[str, int], *arguments: Any, **options: Any) -> Any:
        connected.append(address[0])
        return plain(address, *arguments, **options)

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(public_network, "is_public", lambda address: address == "127.0.0.1")
    names = {"turncoat.example": ["127.0.0.1", "127.0.0.2"]}
    asked = named(monkeypatch, names)
    manners = replace(HERE, private=False, tries=1)
    # the first look-up, for robots.txt, is of the public address; the connection is kept for the picture
    found = fetched(tmp_path, site.url("1.jpg", "turncoat.example"), manners=manners)
    assert {*connected} == {"127.0.0.1"}
    if len(asked) > 1:
        assert found[0].reason == "private address"
    again = fetched(tmp_path / "b", site.url("2.jpg", "turncoat.example"), manners=manners)
    assert again[0].reason == "private address"
    assert {*connected} == {"127.0.0.1"}


def test_a_name_with_one_private_address_among_others_is_refused(
    site: PictureSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, site.port)) for host in ("1.1.1.1", "10.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    (one,) = fetched(tmp_path, site.url("1.jpg", "both.example"), manners=replace(HERE, private=False))
    assert (one.reason, one.detail) == ("private address", "both.example is 10.0.0.1")


def test_redirects_end_and_their_targets_are_judged(site: PictureSite, tmp_path: Path) -> None:
    site.robots = "User-agent: *\nDisallow: /7.jpg"
    good, forbidden, circle, away = fetched(
        tmp_path, site.url("to//3.jpg"), site.url("to//7.jpg"), site.url("to//to//to//to//to//to//to//1.jpg"),
        site.url("to/file:///etc/passwd"),
    )  # fmt: skip
    assert good.content == packed(photograph(3))
    assert forbidden.reason == "robots.txt"
    assert (circle.reason, circle.detail) == ("not fetched", "more than 5 redirects")
    assert away.reason == "not fetched"


def test_nothing_is_fetched_twice(site: PictureSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "BATCH", 3)
    addresses = [site.url(f"{number}.jpg") for number in range(7)]
    reading = Fetcher(tmp_path, HERE)("table", [(address, 0) for address in addresses])
    next(reading)
    reading.close()  # stopped: the first three are there, of the others none
    fetched(tmp_path, *addresses)
    asked = [site.asked[f"{number}.jpg"] for number in range(8)]
    assert asked[:3] == [1, 1, 1]
    assert max(asked) <= 2
    fetched(tmp_path, *addresses, site.url("7.jpg"))  # a grown table: its last file is another one
    again = [site.asked[f"{number}.jpg"] for number in range(8)]
    assert again == [*asked[:6], asked[6] + 1, 1]


def test_a_table_of_addresses_becomes_a_corpus(
    site: PictureSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.robots = "User-agent: *\nDisallow: /4.jpg"
    rows = [(site.url(f"{number}.jpg"), f"a picture of thing number {number}") for number in range(5)]
    rows += [
        (site.url("status/404"), "a thing that is gone"),
        (site.url("tall/6"), "a tall thing"),
        ("", "?"),
    ]
    table = tmp_path / "table.tsv"
    with table.open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([("URL", "TEXT"), *rows])
    out = tmp_path / "out"
    command = ["data", "prepare", str(table), str(out), "--size", "32", "--workers", "1"]
    assert main(command) == 1
    assert "`unclip data prepare --fetch` fetches them" in capsys.readouterr().err
    assert main([*command, "--fetch", "--allow-private"]) == 0
    assert len(Corpus(out, "all")) == 4
    dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert {(one["key"], one["reason"]) for one in dropped} == {
        ("table/00000004", "robots.txt"),
        ("table/00000005", "not fetched"),
        ("table/00000006", "extreme aspect"),
        ("table/00000007", "row without a picture"),
    }
    assert main([*command, "--fetch"]) == 0  # what was fetched is there
    capsys.readouterr()
    assert site.asked["0.jpg"] == 1


def test_the_addresses_of_what_img2dataset_has_fetched_are_not_fetched_again(
    site: PictureSite, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    files = {"000000000.jpg": packed(photograph(1)), "000000000.txt": b"a picture of a thing"}
    files["000000000.json"] = json.dumps(
        {"caption": "a picture of a thing", "url": site.url("1.jpg")}
    ).encode()
    (folder / "00000.tar").write_bytes(tar_bytes(files, "w"))
    rows = [{"url": site.url("1.jpg"), "caption": "a picture of a thing", "key": "000000000"}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")
    (folder / "00000_stats.json").write_text('{"count": 1, "successes": 1}')
    out = tmp_path / "out"
    options = ["--size", "32", "--workers", "1", "--fetch", "--allow-private"]
    assert main(["data", "prepare", str(folder), str(out), *options]) == 0
    assert not site.asked
    corpus = Corpus(out, "all")
    assert [corpus.captions(index)["en"][0] for index in range(len(corpus))] == ["a picture of a thing"]
