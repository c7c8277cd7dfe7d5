"""The stand: a whole Darkroom of real processes whose lines to what they stand on can be made bad.

One stand serves many rows of the matrix, each of which brings the workers that it needs and takes
them away again. The test's own process holds the lines and the webhook receiver, nothing that a job
depends on otherwise.
"""

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import boto3
from botocore.config import Config
from redis.asyncio import Redis

from deploy import probe
from storage.local import LocalObjects
from tests.faults.bucket import NAME as BUCKET
from tests.faults.bucket import Bucket, bucket
from tests.faults.crew import Crew
from tests.faults.proxy import FINE, Proxy, proxying
from tests.processes import Installation, Program, installed
from tests.receiver import Receiver, receiving
from tests.s3server.server import S3Server
from tests.s3server.server import running as s3_running


# What a worker of most rows is told: a short lease, so that a row is over soon.
SOON = {"DARKROOM_WORKER__LEASE": "3", "DARKROOM_WORKER__HEARTBEAT": "0.8"}
CATALOG = """\
default_model = "sketch"

[[deployments]]
name = "sketch"
model = "sketch"
provider = "sketch"

[[deployments]]
name = "fake-openai"
model = "gpt-image-2"
provider = "openai"
base_url = "http://127.0.0.1:{upstream}/openai/v1"
api_key_env = "FAKE_OPENAI_KEY"
timeout = 60
price = {{{{ per_image = 0.05, as_of = "2026-11-21" }}}}

[[deployments]]
name = "fake-hasty"
model = "hasty"
provider = "openai"
upstream_model = "gpt-image-2"
base_url = "http://127.0.0.1:{upstream}/openai/v1"
api_key_env = "FAKE_OPENAI_KEY"
timeout = 4

[[deployments]]
name = "fake-queued"
model = "queued"
provider = "fal"
upstream_model = "fal-ai/flux/schnell"
base_url = "http://127.0.0.1:{upstream}/fal"
api_key_env = "FAKE_OPENAI_KEY"
timeout = 60
options = {{{{ poll_seconds = 0.5 }}}}

[[deployments]]
name = "odd"
model = "odd"
provider = "openai"
upstream_model = "gpt-image-2"
base_url = "http://127.0.0.1:{odd}/v1"
api_key_env = "FAKE_OPENAI_KEY"
timeout = 20

[[deployments]]
name = "odd-tls"
model = "odd-tls"
provider = "openai"
upstream_model = "gpt-image-2"
base_url = "https://127.0.0.1:{odd_tls}/v1"
api_key_env = "FAKE_OPENAI_KEY"
timeout = 5
"""


@dataclass
class Stand:
    """An installation with a line before its Redis, its upstream and its receiver.

    `redis` is the line of the service, `worker_redis` that of the workers, `objects` that of both.
    `client` carries the key, `visitor` none. Nothing listens at `odd` and `odd_tls` until a row
    puts something there.
    """

    here: Installation
    redis: Proxy
    worker_redis: Proxy
    upstream: Proxy
    hook: Proxy
    receiver: Receiver
    client: aiohttp.ClientSession
    visitor: aiohttp.ClientSession
    store: Redis
    odd: int
    odd_tls: int
    objects: Proxy | None = None
    bucket: Bucket | None = None
    services: list[Program] = field(default_factory=list)

    @property
    def hook_url(self) -> str:
        """Return where the receiver is reached through its line."""
        return f"http://127.0.0.1:{self.hook.port}/hook"

    @property
    def workers(self) -> list[Program]:
        """Return the workers that run."""
        return [worker for worker in self.here.workers if worker.is_alive]

    async def add_worker(self, *, module: str = "worker", **environment: str) -> Program:
        """Start a worker behind the workers' own line to Redis."""
        name = f"worker-{len(self.here.workers)}"
        worker = Program(
            name,
            (sys.executable, "-m", module),
            {**self._of_workers(), **environment},
            self.here.folder / f"{name}.log",
        )
        self.here.workers.append(worker)
        await worker.start()

        async def started() -> bool:
            return "worker_started" in worker.log.read_text()

        await eventually(started, within=30)
        return worker

    def keep_worker(
        self, crew: Crew, *, name: str = "worker", module: str = "worker", **environment: str
    ) -> None:
        """Let a crew keep such a worker running."""
        crew.add_python(name, module, {**self._of_workers(), **environment})

    def _of_workers(self) -> dict[str, str]:
        return {
            **self.here.environment,
            "DARKROOM_REDIS__URL": _through(self.here.redis_url, self.worker_redis),
            "DARKROOM_WORKER__WEBHOOK_SCALE": "0.01",
            "DARKROOM_WORKER__IMAGE_CHILDREN": "1",
        }

    async def add_service(self, **environment: str) -> tuple[Program, str]:
        """Start one more service and return it with its own address."""
        port = probe.free_port("127.0.0.1")
        program = Program(
            f"service-{len(self.services) + 1}",
            self.here.service.command,
            {**self.here.environment, "DARKROOM_PORT": str(port), **environment},
            self.here.folder / f"service-{len(self.services) + 1}.log",
        )
        await program.start()
        self.services.append(program)
        url = f"http://127.0.0.1:{port}"
        await self.answers(url, "/readyz")
        return program, url

    async def here_answers(self) -> None:
        """Return once the service is ready, whoever keeps it."""
        await self.answers(self.here.url, "/readyz")

    async def answers(self, url: str, path: str, *, within: float = 30.0) -> None:
        """Return once a GET is answered with 200."""

        async def good() -> bool:
            return await probe.status(url, path) == 200

        await probe.until(good, within=within)

    async def restart_service(self, **environment: str) -> None:
        """Start the service anew, with more in its environment."""
        service = self.here.service
        if service.is_alive:
            await service.end()
        service.environment = {**self.here.environment, **environment}
        await service.start()
        await self.here.wait_ready()

    async def calls(self, *, containing: str = "", method: str = "POST") -> list[dict[str, Any]]:
        """Return what the upstream was asked: the submits whose prompt contains a text."""
        async with self.client.get(f"{self.here.upstream_url}/_calls") as answer:
            calls = await answer.json()
        return [c for c in calls if c["method"] == method and containing in (c["prompt"] or "")]

    async def kept(self, prefix: str) -> list[str]:
        """Return the keys of the objects under a prefix, where they are kept in a folder."""
        path = self.here.folder / "objects"
        objects = LocalObjects(path, secret=bytes(32), base_url=self.here.url)
        try:
            return [key async for key, _ in objects.keys(prefix)]
        finally:
            await objects.close()

    async def rule(self, **body: Any) -> None:
        """Give the upstream a rule; see `tests.upstream.faults.Rule`."""
        async with self.client.post(f"{self.here.upstream_url}/_faults", json=body) as answer:
            assert answer.status == 201

    async def tidy(self) -> None:
        """End what a row has left behind, so that the next begins on a clean stand."""
        for line in (self.redis, self.worker_redis, self.upstream, self.hook, self.objects):
            if line is not None and line.line is not FINE:
                await line.become(FINE)
        for program in (*self.here.workers, *self.services):
            if program.is_alive:
                resume(program)
                await program.end(within=10)
        self.here.workers.clear()
        self.services.clear()
        resume(self.here.redis)
        if not self.here.redis.is_alive:
            await self.here.redis.start()
        await eventually(self._redis_answers, within=20)
        await self.store.config_set("maxmemory", "0")
        if not self.here.service.is_alive:
            await self.restart_service()
        await self.here.wait_ready()
        for path in ("_calls", "_faults"):
            async with self.client.delete(f"{self.here.upstream_url}/{path}") as answer:
                assert answer.status == 204
        if self.bucket is not None:
            self.bucket.refuses = lambda _method, _key: None
            self.bucket.keeps = lambda _key, data: data
            self.bucket.asked.clear()
        self.receiver.status = lambda _: 200
        self.receiver.messages.clear()

    async def _redis_answers(self) -> bool:
        with contextlib.suppress(Exception):
            return bool(await self.store.ping())
        return False


@asynccontextmanager
async def standing(kind: str = "local", **environment: str) -> AsyncIterator[Stand]:
    """Run a stand without workers; keyword arguments go to every environment.

    Its objects are in a folder, or in a bucket behind a line of its own when `kind` is "s3".
    """
    async with AsyncExitStack() as stack:
        stub, objects, of_objects = await _objects(stack, kind)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        redis, worker_redis, upstream, hook = [
            await stack.enter_async_context(proxying(0)) for _ in range(4)
        ]
        odd, odd_tls = (probe.free_port("127.0.0.1") for _ in range(2))

        async def wire(here: Installation) -> None:
            redis.target = worker_redis.target = urlsplit(here.redis_url).port or 0
            upstream.target = urlsplit(here.upstream_url).port or 0
            here.environment["DARKROOM_REDIS__URL"] = _through(here.redis_url, redis)

        catalog = CATALOG.format(upstream=upstream.port, odd=odd, odd_tls=odd_tls)
        here = await stack.enter_async_context(
            installed(folder, workers=0, catalog=catalog, wire=wire, **of_objects, **environment)
        )
        receiver = await stack.enter_async_context(receiving())
        hook.target = urlsplit(receiver.url).port or 0
        client = await stack.enter_async_context(here.client())
        async with client.get("/v1/webhook-secret") as answer:
            receiver.secret = (await answer.json())["secret"]
        visitor = await stack.enter_async_context(aiohttp.ClientSession())
        store = Redis.from_url(here.redis_url, socket_timeout=5)
        stack.push_async_callback(store.aclose)
        stand = Stand(
            here=here,
            redis=redis,
            worker_redis=worker_redis,
            upstream=upstream,
            hook=hook,
            receiver=receiver,
            client=client,
            visitor=visitor,
            store=store,
            odd=odd,
            odd_tls=odd_tls,
            objects=objects,
            bucket=stub,
        )
        try:
            yield stand
        finally:
            for program in (*here.programs, *stand.services):
                resume(program)
            for service in stand.services:
                if service.is_alive:
                    await service.end(within=5)


async def _objects(
    stack: AsyncExitStack, kind: str
) -> tuple[Bucket | None, Proxy | None, dict[str, str]]:
    """Start what objects are kept in, and return what the processes are told of it."""
    if kind == "local":
        return None, None, {}
    if kind == "stub":
        stub = await stack.enter_async_context(bucket())
        told = {"AWS_ACCESS_KEY_ID": "faults-access", "AWS_SECRET_ACCESS_KEY": "faults-secret"}
        port, region = stub.port, "us-east-1"
    else:
        server = await asyncio.to_thread(stack.enter_context, s3_running())
        told = dict(server.environment)
        stub, port, region = None, urlsplit(server.url).port or 0, server.region
        await asyncio.to_thread(_make_bucket, server)
    line = await stack.enter_async_context(proxying(port))
    return (
        stub,
        line,
        {
            **told,
            "DARKROOM_OBJECTS__KIND": "s3",
            "DARKROOM_OBJECTS__BUCKET": BUCKET,
            "DARKROOM_OBJECTS__REGION": region,
            "DARKROOM_OBJECTS__ENDPOINT_URL": f"http://127.0.0.1:{line.port}",
            "DARKROOM_OBJECTS__ADDRESSING_STYLE": "path",
        },
    )


def _make_bucket(server: S3Server) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=BUCKET)
    client.close()


async def eventually(
    true: Callable[[], Awaitable[bool]], *, within: float, every: float = 0.05
) -> float:
    """Return after how many seconds it was so; AssertionError when it never was."""
    begun = time.monotonic()
    while not await true():
        assert time.monotonic() - begun < within, f"not within {within:g} s"
        await asyncio.sleep(every)
    return time.monotonic() - begun


def freeze(program: Program) -> None:
    """Stop a process where it stands, as a machine that swaps or a hypervisor that moves it."""
    assert program.process is not None
    program.process.send_signal(signal.SIGSTOP)


def resume(program: Program) -> None:
    """Let a process go on."""
    if program.process is not None:
        with contextlib.suppress(ProcessLookupError):
            program.process.send_signal(signal.SIGCONT)


def _through(url: str, line: Proxy) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f":{parts.password}@127.0.0.1:{line.port}").geturl()
