"""Rendering: the renditions that were asked for after their job had ended.

What is wanted stands in the job's record, so the task carries nothing but its id, and a worker that
dies leaves the rest to the next one.
"""

from dataclasses import dataclass

import structlog

from storage.errors import Unavailable
from storage.failure import Failure, FailureCode
from storage.image import Image
from storage.job import Job
from storage.jobs import Jobs
from storage.objects import Objects, ObjectsRefused
from storage.queue import job_of_render_task
from storage.rendition import Recipe
from worker.outcome import Again, Nothing, Outcome
from worker.renditions import Renditions, failed


log = structlog.get_logger("worker.rendering")

_TRIES = 20
_MOST_BYTES = 104_857_600


@dataclass(frozen=True, slots=True)
class Rendering:
    """Makes what the images of a job still lack."""

    jobs: Jobs
    objects: Objects
    renditions: Renditions
    label: bool

    async def run(self, task_id: str) -> Outcome:
        """Make every pending rendition of the job."""
        try:
            job = await self.jobs.find(job_of_render_task(task_id))
            for image in () if job is None else job.images:
                if job is not None and image.wanted:
                    await self._render(job, image)
        except Unavailable as error:
            return Again(error.retry_after)
        return Nothing()

    async def _render(self, job: Job, image: Image) -> None:
        wanted = image.wanted
        made = await self._made(job, image, wanted)
        names = {recipe.name for recipe in wanted}
        results = tuple(one for one in made.renditions if one.name in names)
        log.info("rendered", job=job.id, tenant=job.tenant, renditions=len(results))
        for _ in range(_TRIES):
            now = await self.jobs.find(job.id)
            if now is None or not now.is_ended:
                return
            latest = now.images[image.index].with_renditions(results, made)
            if await self.jobs.swap(now, now.with_image(latest)) is not None:
                return
        raise Unavailable("The job is changing too fast.")

    async def _made(self, job: Job, image: Image, wanted: tuple[Recipe, ...]) -> Image:
        try:
            data = await self.objects.get(image.key or "", limit=_MOST_BYTES)
        except ObjectsRefused:
            data = None
        if data is None:
            failure = Failure(
                code=FailureCode.STORAGE_ERROR, message="The object storage did not give the image."
            )
            gone = [failed(recipe, failure) for recipe in wanted]
            return image.with_renditions(gone, image)
        label = self.label and job.request.provenance is not False
        return await self.renditions.added(image, data, wanted, label=label)
