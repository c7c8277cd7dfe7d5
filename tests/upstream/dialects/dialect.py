"""What all dialects of the fake share: the walk of one call, and the obedience to its tokens."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import orjson
from aiohttp import BodyPartReader, web

from tests.upstream import delivery, pictures
from tests.upstream.calls import Call, Ledger, Part
from tests.upstream.faults import Fault, Refused, Rule, fault_of
from tests.upstream.files import Files
from tests.upstream.tokens import FAULTY, Tokens, parse


Handler: TypeAlias = Callable[[web.Request, Call], Awaitable[web.StreamResponse]]
Route: TypeAlias = tuple[str, str, Handler]

BAD_KEY = "bad"
_MAX_PREMADE = 64


@dataclass(slots=True)
class World:
    """What the dialects have in common: the ledger, the rules of the side door, files, flat prices.

    `prices` maps a dialect to USD per picture; without an entry a dialect bills by its own table.
    """

    ledger: Ledger = field(default_factory=Ledger)
    rules: list[Rule] = field(default_factory=list)
    files: Files = field(default_factory=Files)
    prices: dict[str, float] = field(default_factory=dict)


class Dialect:
    """One upstream: its routes, its checks, its prices, and its envelope for faults.

    A handler reads the call's body, checks it as strictly as the real upstream, calls `begin`,
    draws, bills with `charge`, and returns `answer`. To say no, raise `Refused` anywhere.
    """

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self._seen: Counter[bytes] = Counter()
        self._premade: dict[tuple[object, ...], bytes] = {}

    def routes(self) -> Sequence[Route]:
        """Return `(method, path below the prefix, handler)` for each route."""
        raise NotImplementedError

    def refusal(self, call: Call, refused: Refused) -> web.Response:
        """Return `refused` in this dialect's envelope."""
        raise NotImplementedError

    def key(self, request: web.Request) -> str | None:
        """Return the caller's key; a bearer token unless a dialect says otherwise."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        return key if scheme == "Bearer" and key else None

    async def serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Walk one call: write it down, check the key, handle it, close it."""
        key = self.key(request)
        call = self.world.ledger.open(self.name, request, key)
        response: web.StreamResponse = web.Response(status=499)
        try:
            if key is None or key.startswith(BAD_KEY):
                raise Refused(Fault.UNAUTHORIZED, "Incorrect API key provided.")  # noqa: TRY301 — one place answers
            response = await handler(request, call)
        except Refused as refused:
            response = self.refusal(call, refused)
        except ConnectionError:
            pass  # the caller left, or was cut off on purpose
        finally:
            self.world.ledger.close(call, response.status)
        if not response.prepared:
            response.headers.setdefault("x-request-id", f"req_{call.number}")
        return response

    async def begin(self, call: Call, *, model: str | None, prompt: str) -> Tokens:
        """Read the tokens, wait and refuse as they say, and return them for what follows."""
        call.model, call.prompt = model, prompt
        call.tokens = self._tokens(call)
        if "slow" in call.tokens:
            await asyncio.sleep(call.tokens.number("slow", 1.0))
        refused = fault_of(call.tokens)
        if refused is not None:
            raise refused
        return call.tokens

    def charge(self, call: Call, made: int, usd: float) -> float:
        """Bill `made` pictures and return the bill: `usd`, unless a flat price is set."""
        flat = self.world.prices.get(self.name)
        bill = usd if flat is None else flat * made
        call.bill(bill)
        return bill

    async def answer(
        self, request: web.Request, call: Call, payload: dict[str, Any] | bytes
    ) -> web.StreamResponse:
        """Answer 200 with JSON (a dict, or made before) as the tokens say."""
        body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
        headers = {"x-request-id": f"req_{call.number}"}
        return await delivery.send(request, call.tokens, body, headers=headers)

    def premade(self, key: tuple[object, ...], make: Callable[[], dict[str, Any]]) -> bytes:
        """Return the JSON that `make` returns, made once for each `key`."""
        found = self._premade.get(key)
        if found is None:
            if len(self._premade) >= _MAX_PREMADE:
                self._premade.clear()
            found = self._premade[key] = orjson.dumps(make())
        return found

    async def base64(self, tokens: Tokens, sitting: pictures.Sitting) -> str:
        """Draw in base64, spoiled if the tokens say so."""
        if "bytes" in tokens:
            return pictures.heavy_base64(int(tokens.number("bytes", 190_000)))
        if "signed" in tokens:
            return pictures.signed_base64(sitting.format)
        sitting = _mistaken(tokens, sitting)
        text = await asyncio.to_thread(pictures.drawn_base64, sitting)
        return pictures.spoiled(text) if "bad-b64" in tokens else text

    async def url(
        self,
        request: web.Request,
        tokens: Tokens,
        sitting: pictures.Sitting,
        *,
        lifetime: float = 86_400.0,
    ) -> str:
        """Draw, and return a URL on another port where the picture is to be had."""
        if "dead-url" in tokens:
            return "http://127.0.0.1:9/picture.png"
        if "private-url" in tokens:
            return "http://169.254.169.254/latest/meta-data/"
        size = tokens.number("bytes", 190_000) * 3 / 4
        data = (
            pictures.heavy(int(size))
            if "bytes" in tokens
            else await asyncio.to_thread(pictures.draw, _mistaken(tokens, sitting))
        )
        data = data[: len(data) // 2] if "bad-b64" in tokens else data
        expired = "expired-url" in tokens
        path = self.world.files.keep(
            data,
            sitting.content_type,
            lifetime=0.0 if expired else lifetime,
            page=tokens.text("expired-url") == "html",
            tokens=tokens.below("file-"),
        )
        return f"{request.scheme}://{request.url.host}:{self.world.files.port}{path}"

    def _tokens(self, call: Call) -> Tokens:
        tokens = parse(call.prompt or "", self.name)
        if "times" in tokens:
            digest = hashlib.sha256((call.prompt or "").encode()).digest()
            self._seen[digest] += 1
            if self._seen[digest] > tokens.number("times", 1):
                tokens = tokens.without(FAULTY)
        for rule in self.world.rules:
            if rule.matches(dialect=self.name, key=call.key, model=call.model, path=call.path):
                tokens = tokens.joined(rule.tokens)
        return tokens


def _mistaken(tokens: Tokens, sitting: pictures.Sitting) -> pictures.Sitting:
    """Return a sitting in another format than the answer will say, if the tokens say so."""
    if "wrong-mime" not in tokens:
        return sitting
    return replace(sitting, format="png" if sitting.format != "png" else "jpeg")


async def read_json(request: web.Request, call: Call) -> dict[str, Any]:
    """Read the JSON object of a request into its call; anything else is refused."""
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise Refused(Fault.INVALID, "We could not parse the JSON body of your request.") from error
    if not isinstance(body, dict):
        raise Refused(Fault.INVALID, "The body must be a JSON object.")
    call.body = body
    return body


async def read_form(request: web.Request, call: Call) -> tuple[dict[str, Any], tuple[Part, ...]]:
    """Read a multipart request into its call: fields (repeated ones as lists), and files."""
    if not request.content_type.startswith("multipart/"):
        raise Refused(Fault.INVALID, f"Unsupported content type: '{request.content_type}'.")
    fields: dict[str, Any] = {}
    parts: list[Part] = []
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise Refused(Fault.INVALID, "Nested multipart is not supported.")
        name = part.name or ""
        data = bytes(await part.read(decode=True))
        if part.filename is not None:
            parts.append(
                Part(
                    name=name,
                    filename=part.filename,
                    content_type=part.headers.get("Content-Type"),
                    size=len(data),
                    sha256=hashlib.sha256(data).hexdigest(),
                    data=data,
                )
            )
        elif name in fields:
            known = fields[name]
            fields[name] = [*(known if isinstance(known, list) else [known]), data.decode()]
        else:
            fields[name] = data.decode()
    call.body, call.parts = fields, tuple(parts)
    return fields, call.parts
