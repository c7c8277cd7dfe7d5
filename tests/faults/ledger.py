"""The ledger: what was submitted, called, kept and told, judged at the end.

Every job that got a 2xx must have reached exactly one terminal state, told its receiver of exactly
that under one message id, been asked for at the upstream no more often than its record admits, and
left nothing behind but images that can be fetched.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from storage import redis_keys
from tests.faults.stand import Stand
from tests.faults.verdict import ENDED, Evidence, Verdict, verdict


_AT_ONCE = 16
_TIMEOUT = aiohttp.ClientTimeout(total=20)


@dataclass
class Ledger:
    """What one row submits; `name` begins every prompt, so that calls find their job."""

    stand: Stand
    name: str
    prompts: dict[str, str] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    _number: int = 0

    @property
    def ids(self) -> list[str]:
        """Return the jobs that were taken in, in order."""
        return list(self.prompts)

    async def submit(
        self,
        tokens: str = "",
        *,
        tries: int = 200,
        urls: Sequence[str] = (),
        hook: bool = True,
        model: str = "gpt-image-2",
        **body: Any,
    ) -> str:
        """Submit one job as a careful client does: the same key until there is an answer.

        `urls` are the services to ask, one after the other.
        """
        self._number += 1
        prompt = f"{self.name} {self._number}. {tokens}"
        asked = {"model": model, "prompt": prompt, **body}
        if hook:
            asked["webhook_url"] = self.stand.hook_url
        key = f"{self.name}-{self._number}-{id(self)}".replace(" ", "-")
        for number in range(tries):
            url = urls[number % len(urls)] if urls else ""
            job = await self._ask(f"{url}/v1/jobs", asked, key)
            if job is not None:
                self.prompts[job["id"]] = prompt
                return str(job["id"])
            await asyncio.sleep(0.1)
        raise AssertionError("the job was not taken in")

    async def _ask(self, url: str, body: dict[str, Any], key: str) -> dict[str, Any] | None:
        begun = time.monotonic()
        try:
            async with self.stand.client.post(
                url, json=body, headers={"Idempotency-Key": key}, timeout=_TIMEOUT
            ) as answer:
                self.answers[answer.status] += 1
                job: dict[str, Any] = orjson.loads(await answer.read())
        except (aiohttp.ClientError, TimeoutError):
            self.answers[0] += 1
            return None
        finally:
            self.slowest = max(self.slowest, time.monotonic() - begun)
        if answer.status in {200, 202}:
            return job
        assert answer.status in {429, 502, 503}, job
        return None

    async def job(self, job_id: str) -> dict[str, Any]:
        """Return a job as it stands."""
        for _ in range(100):
            with suppress(aiohttp.ClientError, TimeoutError):
                async with self.stand.client.get(f"/v1/jobs/{job_id}", timeout=_TIMEOUT) as answer:
                    if answer.status in {200, 404}:
                        return dict(await answer.json())
            await asyncio.sleep(0.1)
        raise AssertionError("the service does not answer")

    async def started(self, job_id: str) -> bool:
        """Say whether a worker has taken a job up."""
        return bool((await self.job(job_id))["started_at"])

    async def ended(self, ids: Iterable[str] | None = None, *, within: float) -> dict[str, Any]:
        """Wait for the ends of jobs, all of them by default; return them by id as they stand."""
        waiting = list(self.ids if ids is None else ids)
        found: dict[str, Any] = {}
        deadline = time.monotonic() + within
        while waiting:
            found |= zip(waiting, await self._all(waiting), strict=True)
            waiting = [i for i in waiting if found[i].get("status") not in ENDED | {None}]
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        return found

    async def records(self) -> dict[str, dict[str, Any]]:
        """Return what is on record of every job, whose moments are finer than those shown."""
        pipe = self.stand.store.pipeline(transaction=False)
        for job_id in self.ids:
            pipe.hget(redis_keys.job(job_id), "document")
        found = zip(self.ids, await pipe.execute() if self.ids else (), strict=True)
        return {job_id: orjson.loads(text) for job_id, text in found if text is not None}

    async def told(self, *, within: float) -> float:
        """Wait until the receiver has heard of every job; return after how many seconds."""
        begun = time.monotonic()
        while not set(self.ids) <= set(self.stand.receiver.ids_by_job):
            if time.monotonic() - begun > within:
                break
            await asyncio.sleep(0.05)
        return time.monotonic() - begun

    async def judge(self, *, within: float = 60.0, hooks: bool = True) -> Verdict:
        """Wait for the end of everything and count the promises that were broken."""
        jobs = await self.ended(within=within)
        if hooks:
            await self.told(within=within)
        messages: dict[str, list[tuple[str, str]]] = {}
        for message_id, body in self.stand.receiver.messages:
            messages.setdefault(body["data"]["id"], []).append((message_id, body["type"]))
        calls = Counter(call["prompt"] for call in await self.stand.calls(containing=self.name))
        over = [i for i, job in jobs.items() if job.get("status", "succeeded") in ENDED]
        return verdict(
            Evidence(
                jobs=jobs,
                again=dict(zip(jobs, await self._all(list(jobs)), strict=True)),
                told={i: messages.get(i, []) for i in jobs},
                hooks=hooks,
                calls={i: calls[self.prompts[i]] for i in jobs},
                orphans=await self._orphans(jobs),
                dangling=sum(await self._each(self._dangling, list(jobs.values()))),
                left=await self._left(over),
            )
        )

    async def _all(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        return await self._each(self.job, ids)

    async def _each(self, act: Any, items: Sequence[Any]) -> list[Any]:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(item: Any) -> Any:
            async with gate:
                return await act(item)

        return await asyncio.gather(*(one(item) for item in items))

    async def _dangling(self, job: dict[str, Any]) -> int:
        count = 0
        for image in job.get("images", ()):
            if image["status"] == "succeeded":
                async with self.stand.visitor.get(image["url"]) as answer:
                    digest = hashlib.sha256(await answer.read()).hexdigest()
                count += digest != str(image["sha256"])
        return count

    async def _orphans(self, jobs: dict[str, Any]) -> int:
        """Count the objects of these jobs that are none of their images."""
        if self.stand.objects is not None:
            return 0
        kept = {key for key in await self.stand.kept("t/acme/") if key.split("/")[2] in jobs}
        images = [image for job in jobs.values() for image in job.get("images", ())]
        named = len([image for image in images if image["status"] == "succeeded"])
        return max(len(kept) - named, 0)

    async def _left(self, ids: Iterable[str]) -> int:
        pipe = self.stand.store.pipeline(transaction=False)
        listed = list(ids)
        for job_id in listed:
            pipe.zscore(redis_keys.IMAGE_QUEUE, job_id)
            pipe.exists(redis_keys.payload(job_id))
        found = await pipe.execute() if listed else []
        return len([entry for entry in found if entry])


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")
