"""The service on a fake Redis and a folder, with a stand-in for the workers."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from fakeredis import FakeAsyncRedis

from service.app import CONTEXT, make_app
from service.context import Context
from service.server import make_runner
from service.settings import Settings
from storage import redis_keys
from storage.attempt import AttemptStatus, Cost, CostSource, Usage
from storage.catalog import Catalog, parse
from storage.failure import Failure, FailureCode
from storage.image import Image, ImageStatus
from storage.job import Job
from storage.objects import Objects
from storage.tenant import Scope, Tenant, new_key
from tests.unit.service.pictures import png


JSON = "application/json"
SECRET = "a secret of thirty-two letters or more"

CATALOG = """
default_model = "sketch"
[aliases]
"dall-e-3" = "gpt-image-2"
[[deployments]]
name = "sketch"
model = "sketch"
provider = "sketch"
price = { per_image = 0.01 }
[[deployments]]
name = "openai"
model = "gpt-image-2"
provider = "openai"
api_key_env = "OPENAI_API_KEY"
[[deployments]]
name = "zai"
model = "glm-image"
provider = "zai"
api_key_env = "ZAI_API_KEY"
"""


class Served(TestServer):
    """Serves as the process does: what aiohttp would do with a broken request is not tested."""

    async def _make_runner(self, **_: Any) -> web.AppRunner:
        return make_runner(self.app)


@dataclass
class Worker:
    """Ends every queued job with pictures, or as `failure` says, `after` so many seconds."""

    context: Context
    after: float = 0.0
    failure: Failure | None = None
    failed: frozenset[int] = frozenset()
    usage: Usage | None = None
    text: str | None = None
    made: list[Job] = field(default_factory=list)

    async def run(self) -> None:
        while True:
            for job_id in await self.context.commands.execute(
                "ZRANGE", redis_keys.IMAGE_QUEUE, 0, -1
            ):
                job = await self.context.jobs.find(job_id.decode())
                if job is not None and not job.is_ended:
                    await asyncio.sleep(self.after)
                    await self.finish(job)
            await asyncio.sleep(0.005)

    async def finish(self, job: Job) -> Job | None:
        """Walk the job to its end in one swap."""
        now = time.time()
        running = job.claimed("fence", now).attempting("sketch", "sketch", "fence", now)
        images = [await self._image(job, image.index) for image in job.images]
        cost = Cost(0.01, CostSource.PRICE_TABLE)
        closed = running.progressed("fence", images, cost, self.usage, text=self.text).attempted(
            "fence", now, AttemptStatus.SUCCEEDED
        )
        ended = await self.context.jobs.swap(job, closed.settled("fence", now, self.failure))
        if ended is not None:
            self.made.append(ended)
        return ended

    async def _image(self, job: Job, index: int) -> Image:
        failure = self.failure
        if failure is None and index in self.failed:
            failure = Failure(code=FailureCode.NO_IMAGE, message="No picture came.")
        if failure is not None:
            return Image(index=index, status=ImageStatus.FAILED, error=failure)
        width, height = job.request.pixels or (64, 64)
        data = png(width, height)
        key = f"t/{job.tenant}/{job.id}/1/{index}.png"
        await self.context.objects.put(key, data, content_type="image/png")
        return Image(
            index=index,
            status=ImageStatus.SUCCEEDED,
            key=key,
            content_type="image/png",
            width=width,
            height=height,
            bytes=len(data),
            sha256=f"{index:064x}",
            attempt=1,
        )


@dataclass
class Front:
    """A running service, a client of it with a key, and what it stands on."""

    client: TestClient[web.Request, web.Application]
    context: Context
    key: str
    redis: FakeAsyncRedis
    worker: Worker

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def spooled(self) -> list[Path]:
        """Return the files that lie where large ones come in."""
        return [p for p in (self.context.settings.data / "spool").rglob("*") if p.is_file()]

    async def get(self, path: str, **options: Any) -> ClientResponse:
        return await self.request("GET", path, **options)

    async def post(self, path: str, document: Any = None, **options: Any) -> ClientResponse:
        if document is not None:
            options["data"] = io.BytesIO(json.dumps(document).encode())
            options["headers"] = {"Content-Type": JSON, **options.get("headers", {})}
        return await self.request("POST", path, **options)

    async def request(self, method: str, path: str, **options: Any) -> ClientResponse:
        headers = {**self.headers, **options.pop("headers", {})}
        return await self.client.request(
            method, path, headers=headers, allow_redirects=False, **options
        )

    async def new_key(self, tenant: str, *scopes: Scope) -> str:
        return await make_key(self.context, tenant, *scopes)

    async def queued(self) -> int:
        """Return how many jobs the queue holds."""
        return int(await self.redis.zcard(redis_keys.IMAGE_QUEUE))

    async def kept(self, prefix: str = "") -> list[str]:
        """Return the keys of all objects, in order."""
        return sorted([key async for key, _ in self.context.objects.keys(prefix)])


async def make_key(context: Context, tenant: str, *scopes: Scope) -> str:
    await context.tenants.add(Tenant(id=tenant, created_at=0.0))
    key, text = new_key(tenant, 0.0, scopes=scopes or (Scope.SUBMIT, Scope.READ))
    await context.tenants.add_key(key)
    return text


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate(
        {
            "data": tmp_path,
            "secret": SECRET,
            "public_url": "http://front.test",
            "objects": {"path": tmp_path / "objects", "fsync": False},
            "limits": {"body_idle": 0.5, "body_total": 2.0, "max_wait": 3.0},
        }
    )


@pytest.fixture
def catalog() -> Catalog:
    return parse(CATALOG)


Start = Callable[..., Awaitable[Front]]


@pytest.fixture
async def start(
    settings: Settings,
    catalog: Catalog,
    aiohttp_client: Callable[..., Awaitable[TestClient[web.Request, web.Application]]],
) -> AsyncIterator[Start]:
    """Start a service; what is not given is the plain thing."""
    workers: list[asyncio.Task[None]] = []

    async def begin(
        *, objects: Objects | None = None, redis: FakeAsyncRedis | None = None, **changes: Any
    ) -> Front:
        fake = redis or FakeAsyncRedis()
        app = make_app(
            settings.model_copy(update=changes), redis=fake, objects=objects, catalog=catalog
        )
        client = await aiohttp_client(Served(app))
        context = app[CONTEXT]
        key = await make_key(context, "alice")
        worker = Worker(context)
        return Front(client, context, key, fake, worker)

    yield begin
    for task in workers:
        task.cancel()


@pytest.fixture
async def front(start: Start) -> Front:
    return await start()


@pytest.fixture
async def working(front: Front) -> AsyncIterator[Front]:
    """The service, with the stand-in at work."""
    task = asyncio.create_task(front.worker.run())
    yield front
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
