"""The usual server of a drawing model, to compare `unclip serve` with: FastAPI, and a lock a request.

The way in which tutorials put a diffusers pipeline behind HTTP. The model is our own, so that the servers
differ and nothing else: `python benchmarks/serve_peer.py [MODEL]` prints its address when it has drawn once.
"""

from __future__ import annotations

import argparse
import base64
import socket
import threading
from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI

import unclip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", help="name or folder of a bundle; by default the shipped one")
    model, lock, app = unclip.load(parser.parse_args().model), threading.Lock(), FastAPI()
    model.generate("a red apple", seed=0)

    @app.post("/v1/images/generations")
    def generations(request: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        with lock:
            (picture,) = model.generate(request["prompt"], seed=request["seed"])
        return {"data": [{"b64_json": base64.b64encode(picture.encode()).decode()}]}

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).run(sockets=[listening])


if __name__ == "__main__":
    main()
