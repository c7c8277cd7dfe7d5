"""The assembly: what a worker process is made of, and what it refuses to start on.

Everything is opened here and closed here, and each part is handed what it needs: nothing below
reads a setting or the environment by itself.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import structlog
from arq.connections import ArqRedis

from storage import redis_keys
from storage.address import Allowance
from storage.batches import Batches
from storage.bills import Bills
from storage.catalog import Deployment
from storage.catalogs import Catalogs
from storage.clock import CellClock
from storage.crash import CrashPoint
from storage.deliveries import Deliveries, LaneLimits
from storage.endpoints import Endpoints
from storage.errors import Error, Invalid, Unavailable
from storage.facts import Limits
from storage.files import Files
from storage.jobs import Jobs
from storage.objects import Objects, open_objects
from storage.queue import Queue
from storage.redis_client import Commands, connect
from storage.replays import Replays
from storage.tenants import Tenants
from storage.traffic import Traffic
from storage.vault import Vault
from worker.addressee import Addressees
from worker.batching import Batching
from worker.executor import Executor, Terms
from worker.imaging import Imaging
from worker.inputs import Inputs
from worker.lease import LeaseWorker, Pace, Task
from worker.permits import Permits
from worker.provider import Provider, Tools
from worker.providers import PROVIDERS
from worker.reaper import Reaper
from worker.remover import Remover
from worker.rendering import Rendering
from worker.renditions import Renditions
from worker.replayer import Replayer
from worker.results import Results
from worker.router import Router
from worker.settings import Settings
from worker.tasks import image_tasks, webhook_tasks
from worker.web import Web
from worker.webhooks import DeliveryTerms, WebhookSender


_BLOCKING_TIMEOUT = 8.0
_FETCHES = 100  # of images by URL at one time
_MADE_FORMATS = ("png", "jpeg", "webp", "gif")

log = structlog.get_logger("worker")


class Misconfigured(Exception):
    """The worker cannot start as it is told to; the message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Parts:
    """All that runs in one worker process."""

    images: LeaseWorker
    webhooks: LeaseWorker
    reaper: Reaper
    remover: Remover
    sender: WebhookSender
    catalogs: Catalogs
    router: Router
    permits: Permits
    commands: Commands
    clock: CellClock
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What all parts stand on: the settings, and what this process has opened."""

    settings: Settings
    redis: ArqRedis
    commands: Commands
    clock: CellClock
    objects: Objects
    jobs: Jobs
    web: Web
    imaging: Imaging
    limits: Limits
    crash: CrashPoint

    @property
    def life(self) -> float:
        """Return for how many seconds an ended job is kept."""
        return self.settings.retention.days * 86_400


@dataclass(frozen=True, slots=True)
class _Workshop:
    """What stands between a job and its upstream."""

    catalogs: Catalogs
    router: Router
    permits: Permits
    providers: Callable[[Deployment], Provider]


@asynccontextmanager
async def built(
    settings: Settings,
    environ: Mapping[str, str],
    providers: Mapping[str, type[Provider]] = PROVIDERS,
) -> AsyncIterator[Parts]:
    """Build all parts, refuse what is unsafe, and close everything at the end."""
    async with AsyncExitStack() as stack:
        ground = await _opened(settings, stack)
        yield _parts(ground, _workshop(ground, environ, providers))


async def _opened(settings: Settings, stack: AsyncExitStack) -> _Ground:
    redis = connect(settings.redis, socket_timeout=_BLOCKING_TIMEOUT)
    commands = Commands(redis, timeout=settings.redis.socket_timeout)
    stack.push_async_callback(commands.close)
    clock = CellClock(commands)
    await _meet_redis(commands, clock, may_evict=settings.redis.allow_eviction)
    objects = await _opened_objects(settings)
    stack.push_async_callback(objects.close)
    web = await stack.enter_async_context(
        Web(
            allowance=Allowance.parse(settings.allow_networks),
            foreign_connections=_FETCHES + settings.worker.webhook_slots,
        )
    )
    limits = Limits(
        pixels=settings.limits.pixels,
        side=settings.limits.side,
        bytes=settings.limits.image_bytes,
    )
    imaging = Imaging(children=settings.worker.image_children or None, limits=limits)
    stack.push_async_callback(imaging.close)
    jobs = Jobs(commands, settings.retention, clock=clock)
    crash = CrashPoint(settings.crash_at)
    return _Ground(settings, redis, commands, clock, objects, jobs, web, imaging, limits, crash)


def _workshop(
    ground: _Ground, environ: Mapping[str, str], providers: Mapping[str, type[Provider]]
) -> _Workshop:
    options = ground.settings.worker
    catalogs = _catalogs(ground.settings)
    traffic = Traffic(ground.commands, lease=options.lease)
    permits = Permits(traffic, heartbeat=options.heartbeat, patience=options.patience)
    router = Router(catalogs, environ, permits=permits, calls=options.calls)
    tools = Tools(web=ground.web, imaging=ground.imaging)

    def provider(deployment: Deployment) -> Provider:
        key = environ.get(deployment.api_key_env) if deployment.api_key_env else None
        return providers[deployment.provider](deployment, key, tools)

    return _Workshop(catalogs, router, permits, _kept(provider))


def _kept(make: Callable[[Deployment], Provider]) -> Callable[[Deployment], Provider]:
    """Make the provider of a deployment once, and anew when the deployment has changed."""
    made: dict[str, tuple[Deployment, Provider]] = {}

    def provider(deployment: Deployment) -> Provider:
        known = made.get(deployment.name)
        if known is None or (known[0] is not deployment and known[0] != deployment):
            known = made[deployment.name] = deployment, make(deployment)
        return known[1]

    return provider


def _parts(ground: _Ground, workshop: _Workshop) -> Parts:
    options = ground.settings.worker
    token = secrets.token_hex(12)
    batches = Batches(ground.commands, ground.settings.retention, clock=ground.clock)
    images = _lease_worker(
        ground,
        token,
        redis_keys.IMAGE_QUEUE,
        image_tasks(_executor(ground, workshop), _rendering(ground), _batching(ground, batches)),
        options.slots,
        options.reserve,
    )
    workshop.permits.take_ahead = images.take_ahead
    sender, replayer = _webhooks(ground)
    return Parts(
        images=images,
        webhooks=_lease_worker(
            ground,
            token,
            redis_keys.WEBHOOK_QUEUE,
            webhook_tasks(sender, replayer),
            options.webhook_slots,
        ),
        reaper=Reaper(
            ground.jobs,
            ground.objects,
            clock=ground.clock,
            life=ground.life,
            orphan_life=ground.settings.retention.orphan_hours * 3600,
            batches=batches,
            files=Files(ground.commands),
        ),
        remover=_remover(ground, batches),
        sender=sender,
        catalogs=workshop.catalogs,
        router=workshop.router,
        permits=workshop.permits,
        commands=ground.commands,
        clock=ground.clock,
    )


def _lease_worker(
    ground: _Ground,
    token: str,
    name: str,
    tasks: Mapping[str, Task],
    slots: int,
    reserve: int = 0,
) -> LeaseWorker:
    options = ground.settings.worker
    return LeaseWorker(
        tasks,
        Queue(ground.commands, name, token=token, lease=options.lease),
        ground.redis,
        slots=slots,
        reserve=reserve,
        name=token,
        pace=Pace(heartbeat=options.heartbeat, grace=options.grace, patience=options.patience),
    )


def _executor(ground: _Ground, workshop: _Workshop) -> Executor:
    options = ground.settings.worker
    return Executor(
        ground.jobs,
        Inputs(
            ground.objects,
            ground.web,
            ground.imaging,
            limits=ground.limits,
            timeout=options.input_timeout,
        ),
        Results(
            ground.objects,
            ground.imaging,
            limits=_made(ground.limits),
            patience=options.patience,
            label=options.label,
            words=options.watermark_text,
            clock=ground.clock,
        ),
        workshop.router,
        workshop.providers,
        clock=ground.clock,
        terms=Terms(attempts=options.attempts, patience=options.patience),
        crash=ground.crash,
    )


def _rendering(ground: _Ground) -> Rendering:
    options = ground.settings.worker
    renditions = Renditions(ground.objects, ground.imaging, options.patience)
    return Rendering(ground.jobs, ground.objects, renditions, label=options.label)


def _batching(ground: _Ground, batches: Batches) -> Batching:
    return Batching(
        batches=batches,
        jobs=ground.jobs,
        bills=Bills(ground.commands),
        tenants=Tenants(ground.commands),
        files=Files(ground.commands),
        objects=ground.objects,
        public_url=ground.settings.public_url,
        life=ground.life,
        clock=ground.clock,
    )


def _remover(ground: _Ground, batches: Batches) -> Remover:
    return Remover(
        tenants=Tenants(ground.commands),
        endpoints=Endpoints(ground.commands),
        batches=batches,
        jobs=ground.jobs,
        files=Files(ground.commands),
        deliveries=Deliveries(ground.commands),
        bills=Bills(ground.commands),
        objects=ground.objects,
        clock=ground.clock,
    )


def _webhooks(ground: _Ground) -> tuple[WebhookSender, Replayer]:
    options = ground.settings.worker
    deliveries = Deliveries(
        ground.commands,
        limits=LaneLimits(
            receiver=options.webhooks_per_receiver, tenant=options.webhooks_per_tenant
        ),
    )
    endpoints = Endpoints(ground.commands)
    sender = WebhookSender(
        deliveries,
        Addressees(
            endpoints,
            Vault(ground.settings.secret.get_secret_value().encode()),
            clock=ground.clock,
            scale=options.webhook_scale,
            patience=options.patience,
        ),
        ground.jobs,
        ground.objects,
        ground.web,
        clock=ground.clock,
        terms=DeliveryTerms(
            timeout=options.webhook_timeout,
            scale=options.webhook_scale,
            patience=options.patience,
            public_url=ground.settings.public_url,
        ),
        crash=ground.crash,
    )
    replayer = Replayer(
        Replays(ground.commands),
        deliveries,
        endpoints,
        clock=ground.clock,
        patience=options.patience,
    )
    return sender, replayer


def _made(given: Limits) -> Limits:
    """Return what an upstream may send: larger pictures than a client may, and GIF."""
    return Limits(
        pixels=max(given.pixels, 67_108_864),
        side=max(given.side, 16_384),
        bytes=max(given.bytes, 104_857_600),
        frames=1000,
        formats=_MADE_FORMATS,
    )


def _catalogs(settings: Settings) -> Catalogs:
    try:
        return Catalogs.read(settings.catalog)
    except Invalid as error:
        raise Misconfigured(error.message) from error


async def _opened_objects(settings: Settings) -> Objects:
    if len(settings.secret.get_secret_value()) < 32:
        raise Misconfigured("DARKROOM_SECRET must be set to at least 32 characters.")
    objects = open_objects(
        settings.objects,
        secret=settings.secret.get_secret_value().encode(),
        public_url=settings.public_url,
    )
    try:
        await objects.check()
    except Unavailable:
        log.warning("objects_away")  # they may come back; results wait for them
    except Error as error:
        raise Misconfigured(f"The objects cannot be used: {error.message}") from error
    return objects


async def _meet_redis(commands: Commands, clock: CellClock, *, may_evict: bool) -> None:
    """Wait for Redis and agree on the time; refuse one that may throw records away."""
    while True:
        try:
            memory = await commands.execute("INFO", "memory")
            kept = await commands.execute("INFO", "persistence")
            await clock.agree()
            break
        except Unavailable:
            log.warning("redis_away")
            await asyncio.sleep(1)
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and not may_evict:
        raise Misconfigured(
            f"Redis may evict records (maxmemory-policy {policy}); set it to noeviction."
        )
    if kept.get("aof_enabled") == 0:
        log.warning("redis_may_forget", remedy="appendonly yes, appendfsync always")
