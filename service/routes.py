"""Every address of the service: method, path, who may come in, what is asked and what is answered.

This table is all there is: the application and its description are both made from it.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from service.context import Context
from service.endpoints import (
    admin,
    batches,
    chat,
    deliveries,
    description,
    files,
    health,
    images,
    job_events,
    job_images,
    jobs,
    models,
    quotes,
    responses,
    results,
    usage,
    webhook_endpoints,
    webhook_keys,
)
from service.entrance import Endpoint, Entrance, ask_for_body
from service.limits import check_headers
from service.wire import admin as operator
from service.wire import replies, webhook_replies, webhooks
from service.wire.batches import BatchRequest
from service.wire.chat import ChatRequest
from service.wire.files import FileRequest, UploadRequest
from service.wire.images import (
    Compatible,
    EditRequest,
    GenerationRequest,
    HubRequest,
    VariationRequest,
)
from service.wire.jobs import JobRequest
from service.wire.links import SignRequest
from service.wire.renditions import RenditionsRequest
from service.wire.responses import ResponseRequest
from storage.delivery import DeliveryStatus
from storage.errors import Error
from storage.event import MESSAGES
from storage.job import JobStatus, JobType
from storage.tenant import Scope


Open = Callable[[web.Request, Context], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Query:
    """One parameter of a query: its JSON schema and what it means."""

    name: str
    schema: dict[str, Any]
    description: str


@dataclass(frozen=True, slots=True)
class Route:
    """One address that asks for a key with `scope`.

    `json` and `form` are the models of the bodies it takes, `files` the files of the form. `shows`
    is the model of its answer; without one it sends bytes. `submits`: `Prefer` and
    `Idempotency-Key` hold, the answer may be a 202 with the job, and limits are asked before the
    body is read. `streams`: the answer may come as server-sent events. `many` is the model of the
    answer to an array of what it takes.
    """

    method: str
    path: str
    endpoint: Endpoint
    scope: Scope
    shows: type[BaseModel] | None
    json: type[BaseModel] | None = None
    form: type[BaseModel] | None = None
    files: tuple[str, ...] = ()
    query: tuple[Query, ...] = ()
    status: int = 200
    submits: bool = False
    streams: bool = False
    many: type[BaseModel] | None = None


_NUMBER: dict[str, Any] = {"type": "number", "minimum": 0, "exclusiveMaximum": 1e12}
_LIST = (
    Query("status", {"enum": [str(s) for s in JobStatus]}, "Only jobs in this state"),
    Query("type", {"enum": [str(t) for t in JobType]}, "Only generations, or only edits"),
    Query("model", {"type": "string"}, "Only jobs of this model"),
    Query("created_after", _NUMBER, "Only jobs made then or later (Unix seconds)"),
    Query("created_before", _NUMBER, "Only jobs made then or earlier (Unix seconds)"),
    Query("limit", {"type": "integer", "minimum": 1, "maximum": 100}, "Jobs of one page"),
    Query("cursor", {"type": "string"}, "Where the page begins: `next` of the page before"),
)
_WAIT = (Query("wait", _NUMBER, "Seconds to wait for the job's end, up to the service's limit"),)
_PROXY = (Query("proxy", {"enum": ["0", "1"]}, "1: send the bytes, do not redirect"),)
_DAYS = (
    Query("from", {"type": "string", "format": "date"}, "The first day, in UTC"),
    Query("to", {"type": "string", "format": "date"}, "The last day, in UTC; default: today"),
)
_LOG = (
    Query("endpoint", {"type": "string"}, "Only what went to this webhook endpoint"),
    Query("job", {"type": "string"}, "Only what tells of this job"),
    Query("status", {"enum": [str(s) for s in DeliveryStatus]}, "Only deliveries in this state"),
    Query("type", {"enum": [*MESSAGES]}, "Only messages of this event"),
    Query("created_after", _NUMBER, "Only deliveries made then or later (Unix seconds)"),
    Query("created_before", _NUMBER, "Only deliveries made before then (Unix seconds)"),
    Query("limit", {"type": "integer", "minimum": 1, "maximum": 100}, "Deliveries of one page"),
    Query("cursor", {"type": "string"}, "Where the page begins: `next` of the page before"),
)
_FILES = (
    Query("limit", {"type": "integer", "minimum": 1, "maximum": 1000}, "Files of the list"),
    Query("purpose", {"enum": ["vision", "user_data"]}, "Only files of this purpose"),
)
_BATCHES = (
    Query("limit", {"type": "integer", "minimum": 1, "maximum": 100}, "Batches of one page"),
    Query("after", {"type": "string"}, "The last batch of the page before"),
)
_TENANT = (Query("tenant", {"type": "string"}, "Whose keys"),)
_ACTS = (
    Query("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "Acts of one page"),
    Query("cursor", {"type": "string"}, "Where the page begins: `next` of the page before"),
)
_SUBMIT, _READ, _ADMIN = Scope.SUBMIT, Scope.READ, Scope.ADMIN
_IMAGE = "/v1/jobs/{id}/images/{index}"
_ENDPOINTS = "/v1/webhook-endpoints"

_WEBHOOKS = (
    Route(
        *("POST", _ENDPOINTS, webhook_endpoints.create, _SUBMIT, webhook_replies.EndpointReply),
        json=webhooks.EndpointRequest,
        status=201,
    ),
    Route(*("GET", _ENDPOINTS, webhook_endpoints.list_, _READ), webhook_replies.EndpointListReply),
    Route(
        *("GET", _ENDPOINTS + "/{id}", webhook_endpoints.show, _READ),
        webhook_replies.EndpointReply,
    ),
    *(
        Route(
            *(method, _ENDPOINTS + "/{id}", webhook_endpoints.update, _SUBMIT),
            webhook_replies.EndpointReply,
            json=webhooks.EndpointChange,
        )
        for method in ("PATCH", "POST")
    ),
    Route(
        *("DELETE", _ENDPOINTS + "/{id}", webhook_endpoints.remove, _SUBMIT),
        replies.DeletedReply,
    ),
    Route(
        *("POST", _ENDPOINTS + "/{id}/rotate", webhook_endpoints.rotate, _SUBMIT),
        webhook_replies.EndpointReply,
        json=webhooks.RotationRequest,
    ),
    Route(
        *("POST", _ENDPOINTS + "/{id}/enable", webhook_endpoints.enable, _SUBMIT),
        webhook_replies.EndpointReply,
        json=webhooks.Nothing,
    ),
    Route(
        *("POST", _ENDPOINTS + "/{id}/disable", webhook_endpoints.disable, _SUBMIT),
        webhook_replies.EndpointReply,
        json=webhooks.Nothing,
    ),
    Route(
        *("POST", _ENDPOINTS + "/{id}/test", webhook_endpoints.test, _SUBMIT),
        webhook_replies.DeliveryReply,
        json=webhooks.Nothing,
        status=202,
    ),
    Route("GET", "/v1/webhook-secret", webhook_keys.secret, _SUBMIT, webhook_replies.SecretReply),
    Route(
        *("POST", "/v1/webhook-secret/rotate", webhook_keys.rotate, _SUBMIT),
        webhook_replies.SecretReply,
        json=webhooks.RotationRequest,
    ),
    Route(
        *("GET", "/v1/deliveries", deliveries.list_, _READ, webhook_replies.DeliveryListReply),
        query=_LOG,
    ),
    Route("GET", "/v1/deliveries/{id}", deliveries.show, _READ, webhook_replies.DeliveryReply),
    Route(
        *("POST", "/v1/deliveries/{id}/redeliver", deliveries.redeliver, _SUBMIT),
        webhook_replies.DeliveryReply,
        json=webhooks.Nothing,
        status=202,
    ),
    Route(
        *("POST", "/v1/deliveries/replay", deliveries.replay, _SUBMIT),
        webhook_replies.ReplayReply,
        json=webhooks.ReplayRequest,
        status=202,
    ),
    Route(
        *("GET", "/v1/deliveries/replays/{id}", deliveries.show_replay, _READ),
        webhook_replies.ReplayReply,
    ),
)

ROUTES = (
    Route(
        *("POST", "/v1/jobs", jobs.create, _SUBMIT, replies.JobReply),
        many=replies.JobsMadeReply,
        json=JobRequest,
        form=JobRequest,
        files=("image[]", "mask"),
        status=202,
        submits=True,
    ),
    Route("GET", "/v1/jobs", jobs.list_, _READ, replies.JobListReply, query=_LIST),
    Route("GET", "/v1/jobs/{id}", jobs.show, _READ, replies.JobReply, query=_WAIT),
    Route("DELETE", "/v1/jobs/{id}", jobs.delete, _SUBMIT, replies.DeletedReply),
    Route("POST", "/v1/jobs/{id}/cancel", jobs.cancel, _SUBMIT, replies.JobReply),
    Route("GET", "/v1/jobs/{id}/events", job_events.events, _READ, None, streams=True),
    Route("GET", _IMAGE, job_images.image, _READ, None, query=_PROXY, status=302),
    Route(
        *("GET", f"{_IMAGE}/renditions", job_images.renditions, _READ),
        replies.RenditionListReply,
    ),
    Route(
        *("POST", f"{_IMAGE}/renditions", job_images.render, _SUBMIT),
        replies.RenditionListReply,
        json=RenditionsRequest,
        status=202,
    ),
    Route(
        *("GET", f"{_IMAGE}/renditions/{{name}}", job_images.rendition, _READ, None),
        query=_PROXY,
        status=302,
    ),
    Route(
        *("POST", f"{_IMAGE}/sign", job_images.sign, _READ, replies.LinkReply),
        json=SignRequest,
    ),
    Route(
        *("POST", f"{_IMAGE}/share", job_images.share, _SUBMIT, replies.ShareReply),
        status=201,
    ),
    Route("DELETE", f"{_IMAGE}/share", job_images.unshare, _SUBMIT, replies.UnsharedReply),
    Route(
        *("POST", "/v1/images/generations", images.generations, _SUBMIT, replies.ImagesReply),
        json=GenerationRequest,
        submits=True,
        streams=True,
    ),
    Route(
        *("POST", "/v1/images/edits", images.edits, _SUBMIT, replies.ImagesReply),
        json=EditRequest,
        form=Compatible,
        files=("image[]", "mask"),
        submits=True,
        streams=True,
    ),
    Route(
        *("POST", "/v1/images/variations", images.variations, _SUBMIT, replies.ImagesReply),
        form=VariationRequest,
        files=("image",),
        submits=True,
    ),
    Route(
        *("POST", "/api/images/generations", images.hub_generations, _SUBMIT),
        replies.ImagesReply,
        json=HubRequest,
        submits=True,
    ),
    *(
        Route(
            *("POST", path, endpoint, _SUBMIT, replies.ChatReply),
            json=ChatRequest,
            submits=True,
            streams=True,
        )
        for path, endpoint in (
            ("/v1/chat/completions", chat.completions),
            ("/api/v1/chat/completions", chat.gateway_completions),
        )
    ),
    Route(
        *("POST", "/v1/responses", responses.create, _SUBMIT, replies.ResponseReply),
        json=ResponseRequest,
        submits=True,
        streams=True,
    ),
    Route("GET", "/v1/responses/{id}", responses.show, _READ, replies.ResponseReply),
    Route("DELETE", "/v1/responses/{id}", responses.delete, _SUBMIT, replies.DeletedReply),
    Route("POST", "/v1/responses/{id}/cancel", responses.cancel, _SUBMIT, replies.ResponseReply),
    Route(
        *("POST", "/v1/files", files.create, _SUBMIT, replies.FileReply),
        json=UploadRequest,
        form=FileRequest,
        files=("file",),
    ),
    Route("GET", "/v1/files", files.list_, _READ, replies.FileListReply, query=_FILES),
    Route("GET", "/v1/files/{id}", files.show, _READ, replies.FileReply),
    Route("DELETE", "/v1/files/{id}", files.delete, _SUBMIT, replies.DeletedReply),
    Route("GET", "/v1/files/{id}/content", files.content, _READ, None),
    Route(
        *("POST", "/v1/quotes", quotes.create, _READ, replies.QuoteReply),
        json=JobRequest,
        form=JobRequest,
        files=("image[]", "mask"),
    ),
    Route(
        *("POST", "/v1/batches", batches.create, _SUBMIT, replies.BatchReply),
        json=BatchRequest,
    ),
    Route("GET", "/v1/batches", batches.list_, _READ, replies.BatchListReply, query=_BATCHES),
    Route("GET", "/v1/batches/{id}", batches.show, _READ, replies.BatchReply),
    Route("POST", "/v1/batches/{id}/cancel", batches.cancel, _SUBMIT, replies.BatchReply),
    Route("POST", "/v1/batches/{id}/retry", batches.retry, _SUBMIT, replies.BatchReply),
    Route("GET", "/v1/usage", usage.show, _READ, replies.SpendReply, query=_DAYS),
    Route("GET", "/v1/models", models.list_, _READ, replies.ModelListReply),
    Route("GET", "/v1/models/{id:.+}", models.show, _READ, replies.ModelReply),
    *_WEBHOOKS,
    Route("GET", "/v1/admin/tenants", admin.tenants, _ADMIN, operator.TenantListReply),
    Route(
        *("POST", "/v1/admin/tenants", admin.make_tenant, _ADMIN, operator.TenantReply),
        json=operator.NewTenant,
        status=201,
    ),
    Route("GET", "/v1/admin/tenants/{id}", admin.tenant, _ADMIN, operator.TenantReply),
    Route(
        *("PATCH", "/v1/admin/tenants/{id}", admin.change_tenant, _ADMIN, operator.TenantReply),
        json=operator.TenantChanges,
    ),
    Route(
        *("DELETE", "/v1/admin/tenants/{id}", admin.remove_tenant, _ADMIN, operator.TenantReply),
        status=202,
    ),
    Route("GET", "/v1/admin/keys", admin.keys, _ADMIN, operator.KeyListReply, query=_TENANT),
    Route(
        *("POST", "/v1/admin/keys", admin.make_key, _ADMIN, operator.NewKeyReply),
        json=operator.NewKey,
        status=201,
    ),
    Route("GET", "/v1/admin/keys/{id}", admin.key, _ADMIN, operator.KeyReply),
    Route(
        *("PATCH", "/v1/admin/keys/{id}", admin.change_key, _ADMIN, operator.KeyReply),
        json=operator.KeyChanges,
    ),
    Route("DELETE", "/v1/admin/keys/{id}", admin.revoke_key, _ADMIN, operator.KeyReply),
    Route(
        *("POST", "/v1/admin/keys/{id}/rotate", admin.rotate_key, _ADMIN, operator.NewKeyReply),
        json=operator.Rotation,
        status=201,
    ),
    Route("GET", "/v1/admin/audit", admin.audit, _ADMIN, operator.AuditReply, query=_ACTS),
)


@dataclass(frozen=True, slots=True)
class OpenRoute:
    """One address that needs no key: what it shows is public, or the address itself is the key."""

    path: str
    endpoint: Open
    content_type: str
    query: tuple[Query, ...] = ()
    method: str = "GET"


_LINK = tuple(
    Query(name, {"type": "string"}, "As the link says")
    for name in ("type", "name", "expires", "signature")
)
_UPLOAD = tuple(
    Query(name, {"type": "string"}, "As the link says")
    for name in ("type", "size", "expires", "signature")
)
_SHARED = (*_PROXY, Query("rendition", {"type": "string"}, "The name of a rendition"))

_KEYRING = (Query("keyring", {"type": "string"}, "Whose keys; without it, an API key says it"),)

OPEN = (
    OpenRoute("/livez", health.livez, "text/plain"),
    OpenRoute("/readyz", health.readyz, "application/json"),
    OpenRoute("/metrics", health.metrics, "text/plain"),
    OpenRoute("/.well-known/jwks.json", webhook_keys.jwks, "application/json", _KEYRING),
    OpenRoute("/objects/{key:.+}", results.open_link, "image/*", _LINK),
    OpenRoute("/uploads/{key:.+}", files.put_upload, "application/json", _UPLOAD, "PUT"),
    OpenRoute("/s/{token}", job_images.shared, "image/*", _SHARED),
)


def add_routes(app: web.Application, context: Context) -> None:
    """Put every address on the application."""
    for route in ROUTES:
        entrance = Entrance(route.endpoint, route.scope, context, submits=route.submits)
        app.router.add_route(
            route.method, route.path, entrance.handle, expect_handler=entrance.expected
        )
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, entrance.handle)

    async def expected(request: web.Request) -> None:
        """Ask for the body only when its headers pass; whoever fails is refused by the handler."""
        with suppress(Error):
            check_headers(request, context.settings.limits)
            await ask_for_body(request)

    for page in OPEN:
        handle = _open(page.endpoint, context)
        app.router.add_route(page.method, page.path, handle, expect_handler=expected)
        if page.method == "GET":
            app.router.add_route("HEAD", page.path, handle)
    for path, serve in description.pages(ROUTES, OPEN):
        app.router.add_get(path, serve)


def _open(
    endpoint: Open, context: Context
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await endpoint(request, context)

    return handle
