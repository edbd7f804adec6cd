"""Models: what each can, and which are loaded."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import FastAPI, Path
from fastapi.responses import JSONResponse, Response

from unclip.serve import schema
from unclip.serve.errors import ApiError
from unclip.serve.routes.aids import options_of
from unclip.serve.service import Service


def add_models(app: FastAPI, service: Service) -> None:
    started = int(time.time())

    def entry(name: str) -> dict[str, Any]:
        models, bundle = service.models, service.models.bundles[name]
        able = models.abilities[name]
        return {
            "id": name,
            "object": "model",
            "created": started,
            "owned_by": "unclip",
            "family": bundle.family,
            "identity": bundle.identity,
            "licence": bundle.manifest.licence,
            "aliases": [alias for alias, meant in models.aliases.items() if meant == name],
            "verbs": list(able.verbs),
            "sizes": [f"{side}x{side}" for side in able.sizes],
            "default_size": f"{able.default_size}x{able.default_size}",
            "settings": list(able.settings),
            "options": options_of(able),
            "prompts": {language: list(texts) for language, texts in bundle.prompts.items()},
            "bytes": models.weight(name),
            "steps": dict(able.steps),
            "guidance": able.guidance,
            "styles": list(able.styles),
            "languages": list(bundle.languages),
            "loaded": name in service.worker.loaded,
        }

    @app.get("/v1/models", response_model=schema.ModelList)
    async def models() -> Response:
        """The bundles that are served, the first one first."""
        return JSONResponse({"object": "list", "data": [entry(name) for name in service.models.bundles]})

    @app.get("/v1/models/{model}", response_model=schema.Model)
    async def model(model: Annotated[str, Path(max_length=256)]) -> Response:
        """What a bundle can."""
        name = service.models.named(model)
        if name is None:
            raise ApiError(404, f"no model {model!r}", param="model", code="model_not_found")
        return JSONResponse(entry(name))

    async def changed(name: str, load: bool) -> Response:
        if name not in service.models.bundles:
            raise ApiError(404, f"no model {name[:64]!r}", param="model", code="model_not_found")
        worker, started = service.worker, time.perf_counter()
        await asyncio.wrap_future(worker.load(name) if load else worker.unload(name))
        seconds = round(time.perf_counter() - started, 3)
        return JSONResponse({"id": name, "loaded": name in worker.loaded, "seconds": seconds})

    @app.post("/v1/unclip/models/{model}/load", response_model=schema.Loaded)
    async def load(model: str) -> Response:
        """Have a bundle read its networks, as a first picture would."""
        return await changed(model, True)

    @app.post("/v1/unclip/models/{model}/unload", response_model=schema.Loaded)
    async def unload(model: str) -> Response:
        """Let a bundle's networks go; they are read again when something is to be drawn."""
        return await changed(model, False)
