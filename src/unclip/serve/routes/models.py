"""Models: what each can, and which are loaded."""

from __future__ import annotations

import asyncio
import time
from functools import cache
from pathlib import Path as Folder
from typing import Annotated, Any

from fastapi import FastAPI, Path
from fastapi.responses import JSONResponse, Response

from unclip.catalogue import PUBLISHED
from unclip.checkpoints.inventory import Model as Known
from unclip.checkpoints.inventory import bundled
from unclip.checkpoints.inventory import models as inventory
from unclip.errors import BundleError
from unclip.images import MAX_PIXELS
from unclip.manifest import FAMILIES
from unclip.serve import schema
from unclip.serve.contract import LARGEST_FILE
from unclip.serve.errors import ApiError
from unclip.serve.fields import LONGEST_PROMPT, MOST_PARTIALS, MOST_PICTURES
from unclip.serve.routes.aids import options_of
from unclip.serve.service import Service

Name = Annotated[str, Path(max_length=256)]


def add_models(app: FastAPI, service: Service) -> None:
    started = int(time.time())

    @cache  # whatever is served stays as it is
    def memory(name: str, folder: Folder) -> dict[str, dict[str, int]]:
        return bundled(name, folder).memory

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
            "memory_bytes": memory(name, bundle.folder),
            "limits": {
                "n": MOST_PICTURES,
                "prompt_characters": LONGEST_PROMPT,
                "partial_images": MOST_PARTIALS,
                "picture_bytes": LARGEST_FILE,
                "picture_pixels": MAX_PIXELS,
            },
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
    async def model(model: Name) -> Response:
        """The abilities of a bundle."""
        name = service.models.named(model)
        if name is None:
            raise ApiError(404, f"no model {model!r}", param="model", code="model_not_found")
        return JSONResponse(entry(name))

    def known(model: Known) -> dict[str, Any]:
        pull = None if service.pulls is None else service.pulls.found.get(model.name)
        return {
            "id": model.name,
            "object": "unclip.model",
            "family": model.family,
            "abilities": [str(ability) for ability in model.abilities],
            "parameters": model.size,
            "memory_bytes": model.memory,
            "licence": model.licence,
            "page": model.page,
            "on_disk": model.folder is not None,
            "stored_bytes": model.stored,
            "unfinished_bytes": model.unfinished,
            "broken": bool(model.problem),
            "draws": model.family in FAMILIES and bool(FAMILIES[model.family].draws),
            "served": model.name in service.models.bundles,
            "loaded": model.name in service.worker.loaded,
            "can_pull": service.pulls is not None and model.name in PUBLISHED,
            "pull": None if pull is None else pull.document,
        }

    @app.get("/v1/unclip/models", response_model=schema.AllKnown)
    async def all_known() -> Response:
        """The models that have a name: those on disk, and the published ones that can be fetched."""
        found = await asyncio.to_thread(inventory)
        return JSONResponse({"object": "list", "data": [known(one) for one in found]})

    @app.get("/v1/unclip/models/{model}", response_model=schema.Known)
    async def one_known(model: Name) -> Response:
        """A model that has a name, and how far it has been fetched."""
        found = await asyncio.to_thread(inventory)
        for one in found:
            if one.name == model:
                return JSONResponse(known(one))
        raise ApiError(404, f"no model {model[:64]!r}", param="model", code="model_not_found")

    @app.post("/v1/unclip/models/{model}/pull", status_code=202, response_model=schema.Fetching)
    async def pull(model: Name) -> Response:
        """Fetch a published model; when its bundle stands it is served, if it draws."""
        if service.pulls is None:
            message = "the owner of this server lets nobody fetch models: ask for --allow-pull"
            raise ApiError(403, message, code="not_allowed")
        if model not in PUBLISHED:
            raise ApiError(404, f"no model {model[:64]!r}", param="model", code="model_not_found")
        if service.is_on_disk(model):
            raise ApiError(409, f"{model} is here already", param="model", code="conflict")
        return JSONResponse(service.pulls.begin(PUBLISHED[model]).document, 202)

    @app.post("/v1/unclip/models/{model}/pull/cancel", response_model=schema.Fetching)
    async def cancel_pull(model: Name) -> Response:
        """Stop fetching a model; what has come is kept, and the next time goes on from there."""
        one = None if service.pulls is None else service.pulls.found.get(model)
        if service.pulls is None or one is None:
            raise ApiError(404, f"{model[:64]!r} is not being fetched", param="model", code="not_found")
        service.pulls.cancel(model)
        return JSONResponse(one.document)

    async def changed(name: str, load: bool) -> Response:
        if name not in service.models.bundles:
            if not load or not service.is_on_disk(name):
                raise ApiError(404, f"no model {name[:64]!r}", param="model", code="model_not_found")
            try:
                await asyncio.to_thread(service.models.add, name)
            except BundleError:
                message = f"{name} draws nothing, or is broken"
                raise ApiError(400, message, param="model", code="unsupported_value") from None
        worker, started = service.worker, time.perf_counter()
        await asyncio.wrap_future(worker.load(name) if load else worker.unload(name))
        seconds = round(time.perf_counter() - started, 3)
        return JSONResponse({"id": name, "loaded": name in worker.loaded, "seconds": seconds})

    @app.post("/v1/unclip/models/{model}/load", response_model=schema.Loaded)
    async def load(model: Name) -> Response:
        """Have a bundle read its networks, as a first picture would; one on disk is served from now on."""
        return await changed(model, True)

    @app.post("/v1/unclip/models/{model}/unload", response_model=schema.Loaded)
    async def unload(model: Name) -> Response:
        """Let a bundle's networks go; they are read again when something is to be drawn."""
        return await changed(model, False)
