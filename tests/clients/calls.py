"""Calls of the `openai` package against a server; `tools/openai_clients.py` runs it with each version.

It imports nothing of `unclip`: it is an app that was written for the hosted service.
"""

from __future__ import annotations

import asyncio
import base64
import struct
import sys
import time
import urllib.request
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import openai
from openai import AsyncOpenAI, OpenAI

MODEL, PROMPT, SIZE = "tiny", "a red apple", "64x64"
ADDRESS = sys.argv[1]


def png(side: int, alpha_from: int | None = None) -> bytes:
    """A square PNG, its rows from `alpha_from` on transparent."""
    rows = b""
    for y in range(side):
        clear = alpha_from is not None and y >= alpha_from
        alpha = 0 if clear else 255
        rows += b"\0" + b"".join(bytes((3 * x % 256, y * 2 % 256, 90, alpha)) for x in range(side))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


IMAGE, MASK = png(64), png(64, alpha_from=32)


def is_png(data: str | None) -> bool:
    return base64.b64decode(data or "").startswith(b"\x89PNG")


def generate(client: OpenAI) -> None:
    first = client.images.generate(model=MODEL, prompt=PROMPT, size=SIZE, n=2, extra_body={"seed": 3})
    again = client.images.generate(model=MODEL, prompt=PROMPT, size=SIZE, n=2, extra_body={"seed": 3})
    assert first.data is not None
    assert again.data is not None
    assert [one.b64_json for one in first.data] == [one.b64_json for one in again.data]
    assert is_png(first.data[0].b64_json)
    assert first.data[0].model_extra["seed"] == 3
    assert first._request_id.startswith("req_")
    answer = client.images.generate(prompt=PROMPT, model="dall-e-2", size=SIZE)
    with urllib.request.urlopen(answer.data[0].url) as file:
        assert file.read(4) == b"\x89PNG"


def edit(client: OpenAI) -> None:
    file = Path(sys.argv[2]) / "image.png"
    file.write_bytes(IMAGE)
    with file.open("rb") as opened:
        kinds = [IMAGE, BytesIO(IMAGE), ("a.png", IMAGE), ("a.png", IMAGE, "image/png"), file, opened]
        for image in [*kinds, [IMAGE]]:
            answer = client.images.edit(
                model=MODEL,
                image=image,
                mask=MASK,
                prompt=PROMPT,
                n=2,
                extra_body={"seed": 1, "steps": 2},
            )
            assert len(answer.data) == 2
            assert is_png(answer.data[0].b64_json)


def vary(client: OpenAI) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        answer = client.images.create_variation(
            image=IMAGE, size=SIZE, response_format="b64_json", extra_body={"seed": 1, "steps": 2}
        )
    assert is_png(answer.data[0].b64_json)
    deprecated = [one for one in said if issubclass(one.category, DeprecationWarning)]
    assert bool(deprecated) == (int(openai.__version__.split(".")[0]) >= 3), said


def stream(client: OpenAI) -> None:
    body = {"model": MODEL, "prompt": PROMPT, "size": SIZE, "extra_body": {"steps": 6}}
    events = list(client.images.generate(stream=True, partial_images=2, **body))
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"], kinds
    assert all(is_png(event.b64_json) for event in events)
    assert events[-1].usage.total_tokens > 0
    events = list(
        client.images.edit(model=MODEL, image=IMAGE, mask=MASK, prompt=PROMPT, stream=True, partial_images=1)
    )
    assert events[-1].type == "image_edit.completed"


def raised(call: object, kind: type[Exception]) -> Exception:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(kind)


def errors(client: OpenAI) -> None:
    wrong = {"model": MODEL, "prompt": PROMPT, "size": "63x63"}
    error = raised(lambda: client.images.generate(**wrong), openai.BadRequestError)
    assert (error.param, error.type) == ("size", "invalid_request_error")
    assert error.request_id.startswith("req_")
    error = raised(lambda: client.images.generate(model="nope", prompt=PROMPT), openai.NotFoundError)
    assert error.code == "model_not_found"
    raised(
        lambda: client.images.edit(model=MODEL, image=b"no picture", prompt=PROMPT), openai.BadRequestError
    )
    impatient = client.with_options(timeout=0.05, max_retries=0)
    raised(
        lambda: impatient.images.generate(model=MODEL, prompt=PROMPT, n=10, extra_body={"steps": 900}),
        (openai.APITimeoutError, openai.RateLimitError),
    )


def refusals(client: OpenAI) -> None:
    def refused(call: object) -> openai.BadRequestError:
        error = raised(call, openai.BadRequestError)
        assert error.code == "content_policy_violation", error
        assert error.type == "invalid_request_error"
        return error

    asked = {"model": MODEL, "size": SIZE}
    assert refused(lambda: client.images.generate(prompt="a naked woman", **asked)).param == "prompt"
    assert refused(lambda: client.images.generate(prompt="벌거벗은 여자", **asked)).param == "prompt"
    face = (Path(sys.argv[2]) / "face.png").read_bytes()
    assert refused(lambda: client.images.edit(model=MODEL, image=face, prompt=PROMPT)).param == "image"


def models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).model_extra["sizes"][0] == SIZE


async def together(client: AsyncOpenAI) -> None:
    """Eight at once, each its own picture, in parallel and streaming."""
    body = {"model": MODEL, "prompt": PROMPT, "size": SIZE}
    alone = await client.images.generate(**body, extra_body={"seed": 0})
    answers = await asyncio.gather(
        *(client.images.generate(**body, extra_body={"seed": seed % 4}) for seed in range(8))
    )
    assert len({answer.data[0].b64_json for answer in answers}) >= 4
    assert answers[0].data[0].model_extra["seed"] == alone.data[0].model_extra["seed"] == 0
    events = await client.images.generate(**body, stream=True)
    assert [event.type async for event in events] == ["image_generation.completed"]
    await client.images.edit(model=MODEL, image=IMAGE, mask=MASK, prompt=PROMPT, extra_body={"steps": 2})


def main() -> None:
    client = OpenAI(base_url=f"{ADDRESS}/v1", api_key="none", timeout=300)
    for call in (generate, edit, vary, stream, errors, refusals, models):
        started = time.perf_counter()
        call(client)
        seconds = time.perf_counter() - started
        print(f"openai {openai.__version__}: {call.__name__} in {seconds:.1f} s", flush=True)

    async def run() -> None:
        async with AsyncOpenAI(base_url=f"{ADDRESS}/v1", api_key="none", timeout=300) as client:
            await together(client)

    asyncio.run(run())
    print(f"openai {openai.__version__}: together")


if __name__ == "__main__":
    main()
