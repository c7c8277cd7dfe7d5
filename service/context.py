"""What every endpoint stands on, put together once when the service starts."""

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from service.admission import Admission
from service.auth import Doorkeeper
from service.availability import Availability
from service.intake import Intake
from service.metrics import Metrics
from service.progress import Progress
from service.reception import Reception
from service.registry import Registry
from service.settings import Settings
from storage.acts import Acts
from storage.address import Allowance, Network
from storage.batches import Batches
from storage.bills import Bills
from storage.catalog import Catalog
from storage.catalogs import Catalogs
from storage.changes import Changes
from storage.deliveries import Deliveries
from storage.endpoints import Endpoints
from storage.files import Files
from storage.jobs import Jobs
from storage.objects import Objects
from storage.redis_client import Commands
from storage.replays import Replays
from storage.tenant import ApiKey, Tenant
from storage.tenants import Tenants
from storage.vault import Vault


Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The collections, the catalogs and the clock of one service process."""

    settings: Settings
    catalogs: Catalogs
    commands: Commands
    jobs: Jobs
    endpoints: Endpoints
    deliveries: Deliveries
    replays: Replays
    vault: Vault
    bills: Bills
    changes: Changes
    objects: Objects
    tenants: Tenants
    files: Files
    acts: Acts
    registry: Registry
    batches: Batches
    doorkeeper: Doorkeeper
    admission: Admission
    proxies: tuple[Network, ...]
    intake: Intake
    availability: Availability
    progress: Progress
    reception: Reception
    allowance: Allowance
    metrics: Metrics
    clock: Clock = field(repr=False)

    @property
    def catalog(self) -> Catalog:
        """Return the catalog in force; it may be another one at the next look."""
        return self.catalogs.current


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request whose key has been checked: who asks, what, and when (Unix seconds)."""

    request: web.Request
    context: Context
    tenant: Tenant
    key: ApiKey
    id: str
    now: float

    def is_gone(self) -> bool:
        """Say whether the client has hung up."""
        transport = self.request.transport
        return transport is None or transport.is_closing()
