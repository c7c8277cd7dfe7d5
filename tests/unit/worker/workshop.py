"""One worker's walk without its processes: real records, real objects, painters for upstreams."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from storage import redis_keys
from storage.catalog import Catalog, Deployment, Model
from storage.catalogs import Catalogs
from storage.deliveries import Deliveries
from storage.delivery import Delivery
from storage.facts import Limits
from storage.job import Job
from storage.jobs import Jobs
from storage.queue import holds
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from tests.doubles import Clock, FailingObjects, Painter
from tests.owed import owed
from tests.samples import a_deployment
from worker.executor import Executor, Terms
from worker.imaging import Imaging
from worker.inputs import Inputs
from worker.provider import Provider
from worker.results import Results
from worker.router import Router
from worker.web import Web


QUICK = Terms(attempts=4, patience=5.0)


@dataclass
class Workshop:
    """What an executor works with; `painters` are its upstreams by the name of the deployment."""

    commands: Commands
    clock: Clock
    jobs: Jobs
    deliveries: Deliveries
    objects: FailingObjects
    imaging: Imaging
    web: Web
    painters: dict[str, Painter] = field(default_factory=dict)

    def executor(
        self,
        *painters: Painter,
        deployments: Sequence[Deployment] = (),
        terms: Terms = QUICK,
        calls: int = 4,
        jobs: Jobs | None = None,
        **can: object,
    ) -> Executor:
        """Return an executor whose deployments, first, second…, are served by the painters."""
        names = ("first", "second", "third")
        served = deployments or [a_deployment(name, can=can) for name in names[: len(painters)]]
        for deployment, painter in zip(served, painters, strict=True):
            self.painters[deployment.name] = painter

        def provider(deployment: Deployment) -> Provider:
            return self.painters[deployment.name]

        limits = Limits()
        return Executor(
            jobs or self.jobs,
            Inputs(self.objects, self.web, self.imaging, limits=limits, timeout=2.0),
            Results(self.objects, self.imaging, limits=limits, patience=terms.patience),
            self.router(served, calls=calls),
            provider,
            clock=self.clock,
            terms=terms,
        )

    def router(self, deployments: Sequence[Deployment], *, calls: int = 4) -> Router:
        """Return a router of one model, `painter`; among equals the first is taken."""
        models = {"painter": Model(name="painter", deployments=tuple(deployments))}
        catalogs = Catalogs(Catalog(models=models))
        return Router(catalogs, {}, calls=calls, chance=lambda: 0.5)

    async def added(self, job: Job) -> Job:
        """Take a job in and return it."""
        await self.jobs.add(job)
        return job

    async def found(self, job: Job) -> Job:
        """Return the job as it is on record now."""
        found = await self.jobs.find(job.id)
        assert found is not None
        return found

    async def owed(self) -> list[Delivery]:
        """Return every delivery that the tenant is owed."""
        return await owed(self.commands)

    async def is_queued(self, job: Job) -> bool:
        """Say whether the queue still knows the job."""
        return await holds(self.commands, redis_keys.IMAGE_QUEUE, job.id)

    async def kept(self) -> dict[str, int]:
        """Return the size of every object by its key."""
        keys = [key async for key, _ in self.objects.keys("")]
        stats = [(key, await self.objects.stat(key)) for key in keys]
        return {key: stat.size for key, stat in stats if stat is not None}


@asynccontextmanager
async def opened(commands: Commands, clock: Clock, folder: Path) -> AsyncIterator[Workshop]:
    """Open a workshop with one child for pixels, and close it."""
    imaging = Imaging(children=1)
    async with Web() as web:
        yield Workshop(
            commands=commands,
            clock=clock,
            jobs=Jobs(commands, RetentionSettings()),
            deliveries=Deliveries(commands),
            objects=FailingObjects(folder),
            imaging=imaging,
            web=web,
        )
    await imaging.close()
