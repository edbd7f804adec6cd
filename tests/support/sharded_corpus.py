"""A corpus of some shards, and where copies of it are served."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from support.file_server import FileServer
from support.shapes import SHAPES, outline
from unclip.data.build import Input, build
from unclip.data.records import Drawing
from unclip.data.shards import write_shards

COLOURS = ("red", "green", "blue", "orange", "purple", "black", "grey", "brown")
BUCKET = "pictures"
PER_SHARD = 10


def build_sharded(folder: Path) -> Path:
    """Four shapes in eight colours and three widths of line, ten to a shard."""

    def drawings(colour: str) -> list[Drawing]:
        return [
            Drawing(
                f"{colour}-{shape}-{width}",
                colour,
                f"width {width}",
                f"{colour} {shape} {width}",
                {"en": [f"a {colour} {shape}"]},
                "CC0-1.0",
                "",
                svg=outline(shape, colour, width),
            )
            for shape in SHAPES
            for width in (3, 6, 9)
        ]

    inputs = [Input(colour, lambda colour=colour: drawings(colour)) for colour in COLOURS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unclip.data.build.write_shards", partial(write_shards, per_shard=PER_SHARD))
        for _ in build(folder, inputs, size=64, fingerprint="", title="shapes"):
            pass
    return folder


@contextmanager
def on_the_web(folder: Path) -> Iterator[tuple[FileServer, str]]:
    """A web server that has a copy of a corpus, and the address of that."""
    with FileServer() as server:
        for path in sorted(folder.glob("*.*")):
            server.files[f"/corpus/{path.name}"] = path.read_bytes()
        yield server, f"{server.url}/corpus"


@contextmanager
def in_s3(folder: Path) -> Iterator[str]:
    """An S3 of this machine that has a copy of a corpus, and the address of that."""
    import boto3
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        for path in sorted(folder.glob("*.*")):
            client.upload_file(str(path), BUCKET, f"corpus/{path.name}")
        try:
            yield f"s3://{BUCKET}/corpus"
        finally:
            client.close()
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            server.stop()
