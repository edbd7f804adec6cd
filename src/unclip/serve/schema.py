"""The answers' forms, and the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from unclip.images import MAX_PIXELS
from unclip.serve import fields
from unclip.serve.fields import PICTURES, VERBS

STAND_IN = "data:image/png;base64,"  # of a file, where a form's fields are checked
Side = Annotated[int, Field(ge=1, le=MAX_PIXELS)]
Margin = Annotated[int, Field(ge=0, le=fields.LONGEST_MARGIN)]
MOST_CHANGED = 1000  # pictures in one request
PictureId = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
BoardName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,100}$", examples=["fruit"])]
COMPONENTS = "#/components/schemas/{model}"


class Cause(BaseModel):
    """An error: four keys, always."""

    model_config = ConfigDict(extra="allow")

    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    error: Cause


class Image(BaseModel):
    model_config = ConfigDict(extra="forbid")

    b64_json: str | None = None
    url: str | None = None
    seed: int
    index: int
    score: float | None


class Withheld(BaseModel):
    """A picture that was drawn and that the policy does not let out."""

    index: int
    seed: int
    category: str


class Images(BaseModel):
    created: int
    data: list[Image]
    background: str
    output_format: str
    quality: str
    size: str
    usage: dict[str, Any]
    job: str
    safety_identifier: str | None = None
    warnings: list[str] | None = None
    withheld: list[Withheld] | None = None


class Option(BaseModel):
    """A setting that means something to a bundle, with its range."""

    name: str
    minimum: float | None
    maximum: float | None
    whole: bool
    choices: list[str]
    default: float | None


class Model(BaseModel):
    id: str
    object: str
    created: int
    owned_by: str
    family: str
    identity: str
    licence: str
    aliases: list[str]
    verbs: list[str]
    sizes: list[str]
    default_size: str
    settings: list[str]
    options: list[Option]
    prompts: dict[str, list[str]]
    bytes: int
    memory_bytes: dict[str, dict[str, int]]
    limits: dict[str, int]
    steps: dict[str, int]
    guidance: float | None
    styles: list[str]
    languages: list[str]
    loaded: bool


class ModelList(BaseModel):
    object: str
    data: list[Model]


class Picture(BaseModel):
    id: str
    object: str
    job: str
    url: str
    format: str
    bytes: int
    width: int
    height: int
    seed: int
    index: int
    score: float | None
    prompt: str
    model: str
    settings: dict[str, str]
    parents: list[str]
    created: float
    starred: bool
    board: str
    deleted: bool


class Pictures(BaseModel):
    object: str
    data: list[Picture]
    next: float | None


class Job(BaseModel):
    id: str
    object: str
    verb: str
    model: str
    prompt: str
    n: int
    created: int
    state: str
    error: Cause | None
    pictures: list[Picture]
    withheld: list[Withheld]
    stage: str
    step: int
    total: int
    fraction: float
    ahead: int
    seconds_left: float


class Jobs(BaseModel):
    object: str
    data: list[Job]
    next: float | None


class Cancelled(BaseModel):
    cancelled: list[str]


class Health(BaseModel):
    status: str


class Change(BaseModel):
    """The changes to a kept picture."""

    model_config = ConfigDict(extra="forbid", strict=True)

    starred: bool | None = None
    board: Annotated[
        Literal[""] | BoardName | None, Field(description="With nothing in it, it is taken off its board.")
    ] = None
    deleted: bool | None = None


class Changes(Change):
    """The changes to several kept pictures."""

    ids: Annotated[list[PictureId], Field(min_length=1, max_length=MOST_CHANGED)]


class Changed(BaseModel):
    changed: list[str]


class BoardBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: BoardName


class Board(BaseModel):
    name: str
    count: int
    cover: str | None


class Boards(BaseModel):
    object: str
    data: list[Board]


class Verify(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    image: fields.Picture


class Login(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    key: Annotated[str, Field(min_length=1, max_length=256)]


class Classify(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    image: fields.Picture
    labels: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=200)]
    model: str | None = None


class Probability(BaseModel):
    label: str
    probability: float


class Probabilities(BaseModel):
    labels: list[Probability]


class Search(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    text: Annotated[str | None, Field(min_length=1, max_length=2000)] = None
    image: fields.Picture | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    model: str | None = None


class Hit(BaseModel):
    similarity: float
    picture: Picture


class Found(BaseModel):
    object: str
    data: list[Hit]
    left: int


class CanvasBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(max_length=200)] = ""
    document: Annotated[str, Field(description="What the page makes of it.")]


class CanvasEntry(BaseModel):
    id: str
    name: str
    updated: float


class Canvas(CanvasEntry):
    document: str


class Canvases(BaseModel):
    object: str
    data: list[CanvasEntry]


class Folder(BaseModel):
    """A folder that the server's owner has allowed; `state` is that of its indexing since the start."""

    id: str
    object: str
    name: str
    indexed: bool
    pictures: int
    files: int
    skipped: int
    state: Literal["running", "done", "failed", "cancelled"] | None
    stage: str
    done: int
    total: int
    error: str | None
    photographs: bool


class Folders(BaseModel):
    object: str
    data: list[Folder]


class Indexing(BaseModel):
    """The bundle whose CLIP looks at a folder."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Annotated[str | None, Field(max_length=256)] = None


class FolderSearch(BaseModel):
    """A search in a folder, by text, by picture, or by both."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Annotated[str | None, Field(min_length=1, max_length=2000, examples=["a red apple"])] = None
    image: fields.Picture | None = None
    without: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=2000)]] | None, Field(max_length=20)
    ] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 20
    threshold: Annotated[float, Field(ge=0, le=1, description="Least probability.")] = 0.0
    since: Annotated[str | None, Field(max_length=10, examples=["2024-05-31"])] = None
    until: Annotated[str | None, Field(max_length=10)] = None
    aspect: Annotated[str | None, Field(max_length=20, examples=["square", "16:9"])] = None


class FolderHit(BaseModel):
    number: int
    name: str
    probability: float
    similarity: float
    width: int
    height: int
    bytes: int
    date: str
    copies: list[str]


class FolderFound(BaseModel):
    object: str
    data: list[FolderHit]


class Fetching(BaseModel):
    """A model on its way: `done` of `total` bytes of the file `stage`, or a step of the conversion."""

    state: Literal["queued", "running", "done", "failed", "cancelled"]
    stage: str
    done: int
    total: int
    error: str | None


class Known(BaseModel):
    """A model that has a name, whether it is on disk or not."""

    id: str
    object: str
    family: str
    abilities: list[str]
    parameters: int
    memory_bytes: dict[str, dict[str, int]]
    licence: str
    page: str
    on_disk: bool
    stored_bytes: int
    unfinished_bytes: int
    broken: bool
    draws: bool
    served: bool
    loaded: bool
    can_pull: bool
    pull: Fetching | None


class AllKnown(BaseModel):
    object: str
    data: list[Known]


class Extension(BaseModel):
    """A picture's size, and the pixels that are to be added on each side."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    width: Side
    height: Side
    left: Margin = 0
    right: Margin = 0
    top: Margin = 0
    bottom: Margin = 0


class Tiles(BaseModel):
    """Squares in the order in which they are drawn: corners in pixels of the extended picture."""

    side: int
    corners: list[tuple[int, int]]


class Watermark(BaseModel):
    """The pixels' own word of what drew them: weights, and the three numbers of unclip's version."""

    weights: str
    version: tuple[int, int, int]


class Origin(BaseModel):
    """The origin that a picture's file claims, and how far that is proved."""

    proof: Literal["trusted", "unknown-key", "altered", "broken", "marked", "labelled", "settings", "nothing"]
    signer: str | None
    made: str | None
    settings: dict[str, str]
    parents: list[str]
    detail: str
    watermark: Watermark | None


class Loaded(BaseModel):
    id: str
    loaded: bool
    seconds: float


def stand_in(kind: type[BaseModel], name: str, count: int) -> Any:
    """A value for a field whose files come beside it."""
    several = "list" in str(kind.model_fields[name].annotation) if name in kind.model_fields else False
    return [STAND_IN] * count if several or count > 1 else STAND_IN


JOBS = {
    "draw": {"value": {"verb": "generate", "prompt": "a red apple", "n": 2, "seed": 3}},
    "text diff": {
        "value": {
            "verb": "restyle",
            "image": fields.EXAMPLE,
            "origin": "a photo of a cat",
            "prompt": "a drawing of a cat",
            "amount": 0.5,
        }
    },
    "plane": {"value": {"verb": "blend", "image": [fields.EXAMPLE] * 3, "plane": 3}},
}


def body(*verbs: str) -> dict[str, Any]:
    """OpenAPI's description of a request's body: that of a verb, or of several with `verb`."""
    references = [{"$ref": COMPONENTS.format(model=VERBS[verb].__name__)} for verb in verbs]
    if len(verbs) > 1:
        names = {"type": "object", "properties": {"verb": {"enum": list(verbs)}}, "required": ["verb"]}
        return _content({"application/json": {"schema": names, "examples": JOBS}})
    content: dict[str, Any] = {"application/json": {"schema": references[0]}}
    if any(name in VERBS[verbs[0]].model_fields for name in PICTURES):
        properties = {
            name: {"type": "string", "format": "binary"}
            for name in PICTURES
            if name in VERBS[verbs[0]].model_fields
        }
        content["multipart/form-data"] = {"schema": {"type": "object", "properties": properties}}
    return _content(content)


def plain_body(kind: type[BaseModel]) -> dict[str, Any]:
    """The same of another form."""
    return _content({"application/json": {"schema": {"$ref": COMPONENTS.format(model=kind.__name__)}}})


def file_or_plain_body(kind: type[BaseModel]) -> dict[str, Any]:
    """The same, or a form with the file of its picture."""
    form = {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}
    plain: dict[str, Any] = plain_body(kind)["requestBody"]["content"]
    return _content(plain | {"multipart/form-data": {"schema": {**form, "required": ["image"]}}})


def _content(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


# Of requests that do not draw.
BODIES = (
    Change,
    Changes,
    BoardBody,
    Verify,
    Login,
    Classify,
    Search,
    CanvasBody,
    Extension,
    Indexing,
    FolderSearch,
)


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, routes=app.routes)
        kinds: list[Any] = [(kind, "validation") for kind in (*VERBS.values(), *BODIES)]
        _, definitions = models_json_schema(kinds, ref_template=COMPONENTS)
        found["components"]["schemas"] |= definitions["$defs"]
        _link(found["paths"])
        for path in found["paths"].values():
            for operation in path.values():
                operation.get("responses", {}).pop("422", None)  # they are 400
        app.openapi_schema = found
    return app.openapi_schema


def _link(paths: dict[str, Any]) -> None:
    """Say which answers name a job or a picture that other addresses take."""
    jobs, pictures = "/v1/unclip/jobs", "/v1/unclip/pictures"
    named = {
        (f"{jobs}", "post", "202"): (jobs, "$response.body#/id"),
        (f"{jobs}", "get", "200"): (jobs, "$response.body#/data/0/id"),
        ("/v1/images/generations", "post", "200"): (jobs, "$response.body#/job"),
        (f"{pictures}", "get", "200"): (pictures, "$response.body#/data/0/id"),
    }
    for (path, method, status), (kind, where) in named.items():
        answer = paths[path][method]["responses"][status]
        answer["links"] = {
            operation["operationId"]: {"operationId": operation["operationId"], "parameters": {"id": where}}
            for other, operations in paths.items()
            if other.startswith(f"{kind}/{{id}}")
            for operation in operations.values()
        }
