"""What each provider can, found out by asking; `python -m tests.ask.abilities` prints the table.

Nothing here is believed: a cell says what calls to the fake upstreams came to. An edit counts when
the fake has got each picture, a mask when it has got it, a number of images when one call brought
them, a resumed task when nothing was submitted again, a cost when it is what the fake has billed.
"""

import asyncio
import base64
import hashlib
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from storage.address import Allowance
from storage.attempt import CostSource
from storage.catalog import Deployment
from storage.request import Request
from tests.ask.asking import Heard, calls_of, made, provider_of
from tests.ask.deployments import PLACES, further, shipped
from tests.suites.provider import source
from tests.unit.worker.providers.masks import half_mask
from tests.upstream import server
from tests.upstream.server import Upstream
from worker.call import Call, Called
from worker.imaging import Imaging
from worker.provider import Picture, Resumable, Source, Tools
from worker.web import Web


PROMPT = "A lighthouse at dawn"
COLUMNS = ("generation", "edit", "mask", "references", "n", "stream", "async resume", "cost")
_STREAMS = ("", "yes", "previews")
_COSTS = {
    CostSource.PRICE_TABLE: "price list",
    CostSource.COMPUTED: "by tokens",
    CostSource.REPORTED: "reported",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """What came of asking one deployment; `claims` is what its catalog entry says of the same."""

    deployment: str
    provider: str
    generation: bool = False
    mask: bool = False
    references: int = 0
    n: int = 0
    stream: str = ""
    resume: bool = False
    cost: str = ""
    claims: tuple[bool, bool, int, int]
    claims_stream: bool

    @property
    def keeps_its_word(self) -> bool:
        """Say whether the deployment does all that its capabilities claim."""
        done = (self.generation, self.mask, self.references, self.n)
        return done == self.claims and bool(self.stream) >= self.claims_stream


class Asker:
    """Asks deployments at one fake, one after the other."""

    def __init__(self, upstream: Upstream, tools: Tools) -> None:
        self._upstream = upstream
        self._tools = tools

    async def ability(self, deployment: Deployment) -> Ability:
        """Return what the deployment can."""
        can = deployment.capabilities
        most = max(can.references, 1) if can.edit else 0
        generation = can.generate and await self._pictures(deployment, 1) == 1
        sources = [source(index) for index in range(most)]
        references = await self._received(deployment, sources, _needed_mask(deployment))
        return Ability(
            deployment=deployment.name,
            provider=deployment.provider,
            generation=generation,
            mask=can.mask and await self._masks(deployment),
            references=references,
            n=await self._pictures(deployment, can.n) if can.generate else min(references, 1),
            stream=await self._streams(deployment) if can.generate else "",
            resume=await self._resumes(deployment),
            cost=await self._cost(deployment),
            claims=(can.generate, can.mask, most, can.n),
            claims_stream=can.stream,
        )

    async def _asked(self, call: Call) -> tuple[Called, Heard]:
        self._upstream.ledger.clear()
        heard = Heard()
        return await made(call, self._tools, heard), heard

    async def _pictures(self, deployment: Deployment, n: int) -> int:
        """Return how many pictures one call brings when `n` are wanted."""
        calls = calls_of(deployment, Request(prompt=PROMPT, n=n))
        called, _ = await self._asked(calls[0])
        return _count(called) if self._submits() == 1 else 0

    async def _received(
        self, deployment: Deployment, sources: Sequence[Source], mask: Source | None = None
    ) -> int:
        """Return how many of the pictures of an edit the fake has got, if one came of them."""
        if not sources:
            return 0
        (call,) = calls_of(deployment, Request(prompt=PROMPT), sources=sources, mask=mask)
        called, _ = await self._asked(call)
        seen = set(self._seen())
        return sum(_digest(one.data) in seen for one in sources) if _count(called) else 0

    async def _masks(self, deployment: Deployment) -> bool:
        mask = half_mask()
        white = await self._tools.imaging.mask_to_white(mask.data)
        received = await self._received(deployment, [source()], mask)
        return received == 1 and bool({_digest(mask.data), _digest(white)} & set(self._seen()))

    async def _streams(self, deployment: Deployment) -> str:
        """Return how an answer comes when previews are wanted."""
        n = min(2, deployment.capabilities.n)
        calls = calls_of(deployment, Request(prompt=PROMPT, n=n, partial_images=2))
        called, heard = await self._asked(calls[0])
        if _count(called) != n:
            return ""
        asked = self._upstream.calls()[0]
        streamed = asked.body.get("stream") is True or asked.query.get("alt") == "sse"
        return "previews" if heard.previews else "yes" if streamed else ""

    async def _resumes(self, deployment: Deployment) -> bool:
        """Say whether another worker gets the picture of a task without submitting it again."""
        relays = deployment.provider == "chat_relay"
        call = _plainest(deployment, f"{PROMPT} [[shape:task]]" if relays else PROMPT)
        first, heard = await self._asked(call)
        other = provider_of(deployment, self._tools)
        if not heard.ids or not isinstance(other, Resumable) or not _count(first):
            return False
        again = await other.resume(call.order, heard.ids[0], Heard().progress)
        bytes_of = [one.data for one in again.outcomes if isinstance(one, Picture)]
        return bytes_of == list(_bytes(first)) and self._submits() == 1

    async def _cost(self, deployment: Deployment) -> str:
        """Return how the cost is known, if it is what the fake has billed."""
        called, _ = await self._asked(_plainest(deployment, PROMPT))
        amount, billed = called.cost.amount, self._upstream.ledger.bill()["total"]
        if not _count(called) or amount is None or not math.isclose(amount, billed, abs_tol=1e-6):
            return ""
        return _COSTS.get(called.cost.source, "")

    def _submits(self) -> int:
        return sum(call.model is not None for call in self._upstream.calls())

    def _seen(self) -> Iterator[str]:
        """Yield the digest of each file, and of all base64, that the fake was sent."""
        for call in self._upstream.calls():
            yield from (part.sha256 for part in call.parts)
            for text in _texts(call.body):
                try:
                    yield _digest(base64.b64decode(text.rpartition(",")[2], validate=True))
                except ValueError:
                    continue


async def abilities() -> list[Ability]:
    """Ask every deployment that ships, and some that could."""
    imaging = Imaging(children=1)
    try:
        async with server.running() as upstream, Web(allowance=_LOOPBACK) as web:
            asker = Asker(upstream, Tools(web=web, imaging=imaging))
            deployments = [*shipped(upstream.url("")), *further(upstream.url(""))]
            return [await asker.ability(deployment) for deployment in deployments]
    finally:
        await imaging.close()


def table(found: Iterable[Ability]) -> str:
    """Return the table of providers in markdown: the best that deployments of each have shown."""
    listed = list(found)
    lines = [f"| provider | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
    for provider in PLACES:
        cells = _cells([one for one in listed if one.provider == provider])
        lines.append(f"| `{provider}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(found: Sequence[Ability]) -> tuple[str, ...]:
    costs = ("", *_COSTS.values())
    references = max(one.references for one in found)
    return (
        _yes(any(one.generation for one in found)),
        _yes(references > 0),
        _yes(any(one.mask for one in found)),
        str(references or "–"),
        str(max(one.n for one in found)),
        max((one.stream for one in found), key=_STREAMS.index) or "–",
        _yes(any(one.resume for one in found)),
        max((one.cost for one in found), key=costs.index) or "unknown",
    )


def _plainest(deployment: Deployment, prompt: str) -> Call:
    """Return a call for one picture, from nothing if the deployment can."""
    sources = () if deployment.capabilities.generate else (source(),)
    mask = _needed_mask(deployment)
    return calls_of(deployment, Request(prompt=prompt), sources=sources, mask=mask)[0]


def _needed_mask(deployment: Deployment) -> Source | None:
    """Return a mask for those that only paint within one."""
    can = deployment.capabilities
    return half_mask() if can.mask and not can.generate else None


def _yes(held: bool) -> str:
    return "yes" if held else "–"


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)


def _bytes(called: Called) -> Iterator[bytes]:
    return (one.data for _, one in called.outcomes if isinstance(one, Picture))


def _count(called: Called) -> int:
    return sum(1 for _ in _bytes(called))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


_LOOPBACK = Allowance.parse("127.0.0.0/8")


if __name__ == "__main__":
    sys.stdout.write(f"{table(asyncio.run(abilities()))}\n")
