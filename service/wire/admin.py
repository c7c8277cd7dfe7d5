"""What operators send and see: tenants, keys and the audit log."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

from service.wire.fields import Wire, Word
from service.wire.replies import Reply
from storage.act import Act
from storage.tenant import ApiKey, Scope, Tenant


MAX_LIFE = 10 * 366 * 86_400.0


def _once(value: tuple[Scope, ...]) -> tuple[Scope, ...]:
    if len(set(value)) < len(value):
        raise ValueError("must name each scope once")
    return value


TenantId = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", max_length=63)]
Weight = Annotated[StrictFloat, Field(gt=0, le=1000, allow_inf_nan=False)]
Most = Annotated[StrictInt, Field(ge=0, le=10_000_000)]
AtOnce = Annotated[StrictInt, Field(ge=1, le=1_000_000)]
PerMinute = Annotated[StrictInt, Field(ge=1, le=1_000_000)]
Life = Annotated[StrictFloat, Field(gt=0, le=MAX_LIFE, allow_inf_nan=False)]
Overlap = Annotated[StrictFloat, Field(ge=0, le=30 * 86_400.0, allow_inf_nan=False)]
Spend = Annotated[StrictFloat, Field(ge=0, le=1e9, allow_inf_nan=False)]
Scopes = Annotated[tuple[Scope, ...], Field(min_length=1), AfterValidator(_once)]


class TenantChanges(Wire):
    """What may be changed of a tenant; null takes a limit away, what is not named stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"max_running": 20}]})

    weight: Weight = Field(1.0, description="Share of the queue, beside the other tenants'")
    max_queued: Most | None = Field(
        None, description="Jobs that may be open, waiting or at work, at one time"
    )
    max_running: AtOnce | None = Field(
        None, description="Jobs that may be at work at one time; the others wait"
    )
    requests_per_minute: PerMinute | None = Field(
        None, description="Requests that submit; a whole minute's may come at one time"
    )
    spend_per_day: Spend | None = Field(None, description="USD for the jobs of one day in UTC")


class NewTenant(TenantChanges):
    """A tenant that is to be."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "acme", "weight": 2.0}]})

    id: TenantId = Field(description="Its name, which never changes")


class KeyChanges(Wire):
    """What may be changed of a key; null takes a limit away, what is not named stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"scopes": ["read"]}]})

    name: Word | None = Field(None, description="What the key is for")
    scopes: Scopes = Field((Scope.SUBMIT, Scope.READ), description="What the key may do")
    requests_per_minute: PerMinute | None = Field(
        None, description="Requests that submit with this key, beside the tenant's own limit"
    )
    spend_per_day: Spend | None = Field(
        None,
        description="USD for the jobs of one day in UTC that are submitted with this key from now "
        "on, beside the tenant's own limit",
    )


class NewKey(KeyChanges):
    """A key that is to be."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tenant": "acme", "name": "ci"}]})

    tenant: TenantId = Field(description="Whose key it is; the tenant must be there")
    environment: Annotated[StrictStr, Field(pattern=r"^(live|test)$")] = Field(
        "live", description="live or test: a word in the key that tells people apart what it is"
    )
    expires_in: Life | None = Field(None, description="Seconds until the key stops working")


class Rotation(Wire):
    """How a key is replaced."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap": 3600}]})

    overlap: Overlap = Field(
        86_400.0, description="Seconds for which the old key works beside the new one"
    )


class TenantReply(Reply):
    """A tenant with its limits; null where there is none."""

    id: str
    object: Literal["tenant"]
    created_at: float
    weight: float
    max_queued: int | None
    max_running: int | None
    requests_per_minute: int | None
    spend_per_day: float | None
    removed_at: float | None = Field(
        description="When it was removed; what it has is being taken away"
    )


class KeyReply(Reply):
    """A key, without its secret."""

    id: str
    object: Literal["key"]
    tenant: str
    name: str
    environment: str
    scopes: list[Scope]
    requests_per_minute: int | None
    spend_per_day: float | None
    live: bool
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None = Field(description="To about a minute")


class ReplacedReply(Reply):
    """The key in whose place another was made, and when it stops working."""

    id: str
    expires_at: float | None


class NewKeyReply(KeyReply):
    """A key with its text, which is shown now and never again."""

    key: str
    replaces: ReplacedReply | None = None


class ActReply(Reply):
    """One thing that an operator did."""

    id: str
    object: Literal["act"]
    at: float
    by: str = Field(description="The id of a key, or console")
    act: str
    tenant: str
    subject: str
    changes: dict[str, Any]


class ListReply(Reply):
    """What every list says beside its items."""

    object: Literal["list"]
    has_more: bool
    next: str | None


class TenantListReply(ListReply):
    """All tenants."""

    data: list[TenantReply]


class KeyListReply(ListReply):
    """A tenant's keys, the oldest first."""

    data: list[KeyReply]


class AuditReply(ListReply):
    """What operators did, the latest first."""

    data: list[ActReply]


def tenant_document(tenant: Tenant) -> dict[str, Any]:
    """Return a tenant as JSON."""
    return {
        "id": tenant.id,
        "object": "tenant",
        "created_at": tenant.created_at,
        "weight": tenant.weight,
        "max_queued": tenant.max_queued,
        "max_running": tenant.max_running,
        "requests_per_minute": tenant.requests_per_minute,
        "spend_per_day": tenant.spend_per_day,
        "removed_at": tenant.removed_at,
    }


def key_document(key: ApiKey, now: float, *, last_used_at: float | None = None) -> dict[str, Any]:
    """Return a key as JSON, without anything that would help to guess it."""
    return {
        "id": key.id,
        "object": "key",
        "tenant": key.tenant,
        "name": key.name,
        "environment": key.environment,
        "scopes": list(key.scopes),
        "requests_per_minute": key.requests_per_minute,
        "spend_per_day": key.spend_per_day,
        "live": key.is_live(now),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": last_used_at,
    }


def act_document(act_id: str, act: Act) -> dict[str, Any]:
    """Return an act as JSON."""
    return {
        "id": act_id,
        "object": "act",
        "at": act.at,
        "by": act.by,
        "act": act.name,
        "tenant": act.tenant,
        "subject": act.subject,
        "changes": dict(act.changes),
    }
