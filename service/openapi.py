"""The description of the API as OpenAPI 3.1, made from the routes and the wire models."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.wire.replies import ErrorReply, JobReply
from service.wire.webhook_replies import EndpointMessage, JobMessage
from storage.event import EVENTS, JOB_EVENTS, TEST


VERSION: Final = "0.1.0"
_REF: Final = "#/components/schemas/{model}"
_VARIABLE: Final = re.compile(r"{(\w+)(?::[^}]*)?}")
_JSON: Final = "application/json"

_ERRORS: Final = {
    "400": "The request says something that cannot be done; `param` names it",
    "401": "No valid key",
    "403": "The key may not do this",
    "404": "There is no such thing, or it is another tenant's",
    "408": "The body did not come in time",
    "409": "The thing is in a state that does not allow this",
    "413": "Too many bytes",
    "415": "A type or an encoding that is not read",
    "422": "The Idempotency-Key was used for a different request",
    "429": "A limit is reached; see Retry-After",
    "500": "Our fault",
    "502": "The upstream failed",
    "503": "Something that we stand on does not answer; see Retry-After",
    "504": "The job did not end in time; Location leads to it",
}
_EVERY: Final = ("400", "401", "403", "404", "409", "429", "500", "503")
_WITH_BODY: Final = ("408", "413", "415")
_SUBMITTING: Final = ("422", "502", "504")
_WORDS: Final = (
    "Image jobs behind OpenAI's image API. Every image is a job that can be waited for, polled, "
    "streamed or told by a webhook. JSON is read strictly: one object, no name twice, no number in "
    "quotes."
)
_OPEN: Final = ("400", "403", "404", "408", "413", "500", "503")
_HEADERS: Final = {
    "Prefer": (
        "`respond-async`: 202 at once; `wait=50`: the answer if it is ready in time, else 202",
        "wait=50, respond-async",
    ),
    "Idempotency-Key": (
        "The same key and body give the same job for a day, however often they are sent",
        "order-7-cover",
    ),
}


class Described(Protocol):
    """What has to be known of a route to describe it."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def endpoint(self) -> Any: ...
    @property
    def shows(self) -> type[BaseModel] | None: ...
    @property
    def json(self) -> type[BaseModel] | None: ...
    @property
    def form(self) -> type[BaseModel] | None: ...
    @property
    def files(self) -> tuple[str, ...]: ...
    @property
    def query(self) -> tuple[Any, ...]: ...
    @property
    def status(self) -> int: ...
    @property
    def submits(self) -> bool: ...
    @property
    def streams(self) -> bool: ...
    @property
    def many(self) -> type[BaseModel] | None: ...


class OpenDescribed(Protocol):
    """What has to be known of an address that needs no key."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def endpoint(self) -> Any: ...
    @property
    def content_type(self) -> str: ...
    @property
    def query(self) -> tuple[Any, ...]: ...


def describe(routes: Sequence[Described], open_routes: Sequence[OpenDescribed]) -> dict[str, Any]:
    """Return the OpenAPI document."""
    schemas = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _VARIABLE.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    for page in open_routes:
        path = _VARIABLE.sub(r"{\1}", page.path)
        paths.setdefault(path, {})[page.method.lower()] = _open_operation(page)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Darkroom", "version": VERSION, "description": _WORDS},
        "security": [{"key": []}],
        "paths": paths,
        "webhooks": {event: {"post": _webhook(event)} for event in (*EVENTS, TEST)},
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key: dk_live_…"}
            },
        },
    }


def _schemas(routes: Sequence[Described]) -> Mapping[str, Any]:
    models: dict[type[BaseModel], None] = dict.fromkeys(
        (ErrorReply, JobReply, JobMessage, EndpointMessage)
    )
    for route in routes:
        models.update(
            dict.fromkeys(filter(None, (route.json, route.form, route.shows, route.many)))
        )
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    found: Mapping[str, Any] = schemas["$defs"]
    return found


def _operation(route: Described, schemas: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _name(route),
        "summary": _summary(route.endpoint),
        "tags": [_tag(route.path)],
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.json is not None or route.form is not None:
        operation["requestBody"] = {"required": True, "content": _bodies(route, schemas)}
    return operation


def _name(route: Described) -> str:
    words = re.findall(r"\w+", _VARIABLE.sub(r"\1", route.path))
    return "_".join((route.method.lower(), *words))


def _summary(endpoint: Any) -> str:
    return (inspect.getdoc(endpoint) or "").partition("\n")[0]


def _tag(path: str) -> str:
    words = [word for word in path.split("/") if word not in {"", "v1", "api"}]
    return words[0].partition("{")[0] or "other"


def _parameters(route: Described) -> list[dict[str, Any]]:
    return [
        *_path_parameters(route.path),
        *(_query_parameter(query) for query in route.query),
        *(
            {
                "name": name,
                "in": "header",
                "required": False,
                "schema": {"type": "string"},
                "description": said,
                "example": example,
            }
            for name, (said, example) in _HEADERS.items()
            if route.submits
        ),
    ]


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _VARIABLE.findall(path)
    ]


def _query_parameter(query: Any) -> dict[str, Any]:
    return {
        "name": query.name,
        "in": "query",
        "required": False,
        "schema": query.schema,
        "description": query.description,
    }


def _bodies(route: Described, schemas: Mapping[str, Any]) -> dict[str, Any]:
    bodies: dict[str, Any] = {}
    if route.json is not None:
        one = _ref(route.json)
        several = {"type": "array", "items": one, "minItems": 1, "maxItems": 100}
        bodies[_JSON] = {"schema": one if route.many is None else {"anyOf": [one, several]}}
    if route.form is not None:
        fields = schemas[route.form.__name__]
        files = {name: _file(name) for name in route.files}
        schema = {**fields, "properties": {**fields["properties"], **files}}
        bodies["multipart/form-data"] = {"schema": schema}
    return bodies


def _file(name: str) -> dict[str, Any]:
    one = {"type": "string", "format": "binary"}
    return {"type": "array", "items": one, "maxItems": 16} if name.endswith("[]") else one


def _responses(route: Described) -> dict[str, Any]:
    codes = list(_EVERY)
    if route.json is not None or route.form is not None:
        codes += _WITH_BODY
    if route.submits:
        codes += _SUBMITTING
    answers = {str(route.status): _answer(route)}
    if route.submits:
        accepted = "The job, which goes on; Location leads to it"
        shown = _any(JobReply, route.many)
        answers["202"] = {"description": accepted, "content": {_JSON: {"schema": shown}}}
        answers.setdefault("200", _answer(route))
    if route.shows is None:
        answers.update(_bytes(route))
    errors = {code: _error(code) for code in sorted(set(codes))}
    if route.many is not None:
        errors["400"]["content"][_JSON]["schema"] = _any(ErrorReply, route.many)
    return {**answers, **errors}


def _any(one: type[BaseModel], other: type[BaseModel] | None) -> dict[str, Any]:
    return _ref(one) if other is None else {"anyOf": [_ref(one), _ref(other)]}


def _answer(route: Described) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if route.shows is not None:
        content[_JSON] = {"schema": _ref(route.shows)}
    if route.streams:
        content["text/event-stream"] = {}
    said = _summary(route.shows) if route.shows is not None else "Events, up to the end"
    return {"description": said, "content": content}


def _bytes(route: Described) -> dict[str, Any]:
    if route.streams:
        return {"204": {"description": "The reader has heard the end already"}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = {"image/*": binary, "application/octet-stream": binary}
    return {
        "200": {"description": "The image, or the file", "content": content},
        "206": {"description": "A part of it", "content": content},
        "302": {"description": "Location is a fresh link to the image"},
        "304": {"description": "The image is the one that the client has"},
        "416": {"description": "There are no such bytes"},
    }


def _error(code: str) -> dict[str, Any]:
    return {"description": _ERRORS[code], "content": {_JSON: {"schema": _ref(ErrorReply)}}}


def _open_operation(page: OpenDescribed) -> dict[str, Any]:
    shown = {page.content_type: {"schema": {"type": "string"}}}
    if page.content_type == _JSON:
        shown = {_JSON: {"schema": {"type": "object"}}}
    return {
        "operationId": "_".join(
            (page.method.lower(), *re.findall(r"\w+", _VARIABLE.sub(r"\1", page.path)))
        ),
        "summary": _summary(page.endpoint),
        "tags": ["operations"],
        "security": [],
        "parameters": [
            *_path_parameters(page.path),
            *(_query_parameter(query) for query in page.query),
        ],
        "responses": {
            "200": {"description": _summary(page.endpoint), "content": shown},
            **{code: _error(code) for code in _OPEN},
        },
    }


def _webhook(event: str) -> dict[str, Any]:
    message = JobMessage if event in JOB_EVENTS else EndpointMessage
    signed = {
        "webhook-id": "The message; the same on every try",
        "webhook-timestamp": "When this try was made, in Unix seconds",
        "webhook-signature": "`v1,` and the HMAC-SHA256 of id.timestamp.body, and `v1a,` and the "
        "Ed25519 signature of the same, each by every key that signs (Standard Webhooks)",
    }
    return {
        "operationId": event.replace(".", "_"),
        "summary": f"Sent to receivers that want {event}",
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "description": said,
            }
            for name, said in signed.items()
        ],
        "requestBody": {"content": {_JSON: {"schema": _ref(message)}}},
        "responses": {"2XX": {"description": "Taken; anything else is tried again"}},
    }


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}
