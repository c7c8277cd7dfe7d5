"""Hostile requests by the table: each is refused with a status and a name, and leaves nothing.

Every row is sent to every door that it can be meant for, and after each table the same process
takes a request that is right. What does not apply is said here and in `doors.py`:

- A (1-21) and the types of bodies go to every address that takes JSON, as the application's own
  table of routes has them. Where no body may come at all, an empty one is no error.
- B, C (22-39) go to each door that has the field; `Door.absent` says why another has it not.
  Names that a door does not have are refused by doors of our own and told by those of others.
- D (40-48) goes to each door that names images in JSON; as files, to each that takes forms.
- E (49-61) goes to each door that takes forms.
- Lines of a batch are judged as if they came alone; the batch then names its file.
- Forms have only text, so what differs from a text by its type alone is no error there (17, "1").
- H39's race for a budget and H46 need limits of their own and are tests of their own.
"""

import asyncio
import base64
import io
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import ClientResponse

from service.routes import ROUTES, Route
from storage.batch import Place
from storage.plans import lines as plan_lines
from storage.tenant import Scope, presented
from tests.unit.service.conftest import Front, Start
from tests.unit.service.doors import DOORS, FORM_DOORS, Door, FormDoor
from tests.unit.service.hostile import (
    END,
    FIELDS,
    FORM,
    GRAMMAR,
    IMAGE,
    JSON,
    ODD,
    PICTURES,
    TYPES,
    UNKNOWN,
    Body,
    file,
    forms,
    part,
    text,
)
from tests.unit.service.pictures import png


LATER = {"Prefer": "respond-async"}
FILENAMES = (
    *('filename="../../etc/passwd"', 'filename="C:\\\\x"', 'filename="con.png"', 'filename=""'),
    *('filename="a%0D%0AX-Evil: 1"', 'filename="\u202egnp.exe"', f'filename="{"x" * 3500}"'),
    "filename=\"a.png\"; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd",
)
KEY = re.compile(r"t/alice/(?:job_[0-9a-z]+/in/0|files?[-_/0-9a-z]+)\.png")


@dataclass
class Sent:
    """Sends hostile requests to one front, and gathers what is not as it should be.

    Gathered, so that one run tells all that is wrong with a door; `done` fails if anything is.
    """

    front: Front
    key: str
    wrong: list[str] = field(default_factory=list)
    sent: int = 0

    async def refused(
        self, path: str, body: Body, *, params: tuple[str, ...] = (), method: str = "POST"
    ) -> None:
        """Send a body and look at its refusal: what it says, how fast, and what it left.

        The error names the body's `param`, or one of `params` where there are several ways.
        """
        before = await self._left()
        began = time.perf_counter()
        answer = await self.send(path, body.data, body.content_type, method)
        data = await answer.read()
        took = time.perf_counter() - began
        named = params or ((body.param,) if body.param else ())
        faults = list(_faults(answer, data, body.status, named))
        if took > 1:
            faults.append(f"took {took:.1f} s")
        if await self._left() != before:
            faults.append("left something behind")
        if faults:
            self.wrong.append(f"{method} {path}, {body.name}: {'; '.join(faults)}")

    async def taken(self, path: str, body: bytes, content_type: str, method: str = "POST") -> Any:
        """Send a request that is right, and note it when it is not taken."""
        answer = await self.send(path, body, content_type, method)
        if answer.status >= 300:
            self.wrong.append(f"{path} then refused a right one: {await answer.text()}")
        return await answer.json()

    async def send(
        self, path: str, body: bytes, content_type: str | None, method: str = "POST"
    ) -> ClientResponse:
        self.sent += 1
        headers = {} if content_type is None else {"Content-Type": content_type}
        return await self.front.client.request(
            method,
            path,
            data=io.BytesIO(body),
            headers={"Authorization": f"Bearer {self.key}", **LATER, **headers},
            skip_auto_headers={"Content-Type"},
            timeout=None,
        )

    def done(self) -> None:
        """Fail if anything was not as it should be, or nothing was sent."""
        if self.wrong or not self.sent:
            pytest.fail("\n".join(self.wrong) or "nothing was sent", pytrace=False)

    async def _left(self) -> tuple[Any, ...]:
        return (await self.front.queued(), await self.front.kept(), self.front.spooled())


def _faults(
    answer: ClientResponse, data: bytes, status: int, params: tuple[str, ...]
) -> Iterator[str]:
    told, document = answer.status, json.loads(data)
    if document.get("object") == "list" and told == 400:  # an array is refused job by job
        (document,) = document["data"]
        told = document["error_status"]
    error = document.get("error")
    if error is None:
        yield f"{told}: it was taken"
        return
    if told != status:
        yield f"{told} and not {status}: {error['message']}"
    if set(error) != {"message", "type", "param", "code"} or not error["code"]:
        yield f"an error in another shape: {sorted(error)}"
    if params and error["param"] not in params:
        yield f"named {error['param']} and not {' or '.join(params)}: {error['message']}"
    if not answer.headers.get("X-Request-Id") or len(data) > 1000:
        yield f"{len(data)} bytes of answer"


@pytest.fixture
def sent(front: Front) -> Sent:
    return Sent(front, front.key)


# -- A: every address that takes JSON -------------------------------------------------------------


@dataclass
class Stage:
    """What the addresses need to be there, and what they are asked when nothing is wrong."""

    ids: dict[str, str]
    asks: dict[str, Any]

    def path(self, route: Route) -> str:
        kind = route.path.split("{")[0]
        return route.path.replace("{id}", self.ids.get(kind, "")).replace("{index}", "0")

    def ask(self, route: Route) -> Any:
        assert route.json is not None
        shown: Any = route.json.model_config["json_schema_extra"]
        return self.asks.get(route.path, shown["examples"][0])


async def staged(front: Front) -> Stage:
    """Put a job with an image, a file, an endpoint, a delivery and a key on the front."""
    sent = Sent(front, front.key)

    async def make(path: str, ask: Any) -> Any:
        return await sent.taken(path, json.dumps(ask).encode(), JSON)

    made = await make("/v1/jobs", {"prompt": "x"})
    job = await front.context.jobs.find(made["id"])
    assert job is not None
    assert await front.worker.finish(job) is not None
    endpoint = await make("/v1/webhook-endpoints", {"url": "https://receiver.example/hook"})
    delivery = await make(f"/v1/webhook-endpoints/{endpoint['id']}/test", {})
    line = {"custom_id": "a", "url": "/v1/jobs", "body": {"prompt": "x"}}
    lines = file("file", json.dumps(line).encode())
    uploaded = await sent.taken("/v1/files", text("purpose", "batch") + lines + END, FORM)
    key = presented(await front.new_key("carol"))
    sent.done()
    assert key is not None
    return Stage(
        ids={
            "/v1/jobs/": job.id,
            "/v1/webhook-endpoints/": endpoint["id"],
            "/v1/deliveries/": delivery["id"],
            "/v1/admin/tenants/": "carol",
            "/v1/admin/keys/": key.id,
        },
        asks={
            "/v1/images/edits": {"prompt": "x", "images": [{"image_url": IMAGE}]},
            "/v1/batches": {"input_file_id": uploaded["id"], "endpoint": "/v1/jobs"},
            "/v1/admin/keys": {"tenant": "carol"},
            "/v1/deliveries/replay": {},
        },
    )


JSON_ROUTES = [route for route in ROUTES if route.json is not None]
# These may come without a body, so that an empty one is none.
BODILESS = re.compile(r"/(?:rotate|enable|disable|test|redeliver|replay)$|/v1/webhook-endpoints")


@pytest.mark.parametrize("route", JSON_ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_what_is_no_plain_json_is_refused_everywhere(front: Front, route: Route) -> None:
    stage = await staged(front)
    admin = await front.new_key("house", Scope.ADMIN)
    sent = Sent(front, admin if route.scope is Scope.ADMIN else front.key)
    path = stage.path(route)
    for body in (*GRAMMAR, *TYPES):
        if body.data or not BODILESS.search(route.path):
            await sent.refused(path, body, method=route.method)
    for encoding in ("gzip", "deflate", "br", "zstd", "x", "gzip, gzip"):
        answer = await sent.front.client.request(
            route.method,
            path,
            data=b"\x1f\x8b\x08\x00",
            headers={
                "Authorization": f"Bearer {sent.key}",
                "Content-Type": JSON,
                "Content-Encoding": encoding,
            },
        )
        assert answer.status == 415
        assert (await answer.json())["error"]["param"] == "Content-Encoding"
    await sent.taken(path, json.dumps(stage.ask(route)).encode(), JSON, route.method)
    sent.done()


# -- B to D: every door that submits --------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
class TestADoor:
    def test_has_each_field_or_says_why_not(self, door: Door) -> None:
        rows = {row.field for row in FIELDS}
        assert rows == {*door.at, *door.absent}
        assert door.at.keys().isdisjoint(door.absent)

    def test_has_a_row_for_each_field_of_its_model(self, door: Door) -> None:
        (route,) = {route.json for route in ROUTES if route.path == door.path and route.json}
        places = {*door.at.values(), *(row.field for row in door.rows), door.picture, door.mask}
        covered = {str(place).split(".")[0] for place in places}
        assert set(route.model_fields) - covered == set(door.unheeded)

    async def test_names_the_field_that_is_not_right(self, sent: Sent, door: Door) -> None:
        for row in FIELDS:
            place = door.at.get(row.field)
            if place is not None and row.name not in door.spared:
                body = row.body(json.dumps(door.asking(place, row.value)).encode())
                params = (place + row.below, door.blamed.get(row.field, place + row.below))
                await sent.refused(door.path, body, params=params)
        for row in door.rows:
            body = row.body(json.dumps(door.asking(row.field, row.value)).encode())
            await sent.refused(door.path, body, params=(row.field + row.below,))
        await sent.taken(door.path, json.dumps(door.asked).encode(), JSON)
        sent.done()

    async def test_takes_no_image_that_is_none(self, sent: Sent, door: Door) -> None:
        for kind, place in (("picture", door.picture), ("mask", door.mask)):
            if place is None:
                continue
            for name, value in PICTURES:
                data = json.dumps(door.asking(place, value)).encode()
                named = door.blamed.get(kind, place)
                await sent.refused(door.path, Body(f"{name}, {kind}", data, param=named))
        await sent.taken(door.path, json.dumps(door.asked).encode(), JSON)
        sent.done()

    async def test_refuses_or_tells_a_field_that_it_has_not(self, sent: Sent, door: Door) -> None:
        for name in UNKNOWN:
            body = Body(f"H15, H19 {name[:20]!r}", json.dumps(door.asking(name, {})).encode())
            if door.is_closed:
                await sent.refused(door.path, body, params=(name[:100],))
                continue
            job = await sent.taken(door.path, body.data, JSON)
            told = [warning["param"] for warning in job["warnings"]]
            if name[:100] not in told:
                sent.wrong.append(f"{door.path}: {name[:20]!r} is dropped, and nothing says so")
        sent.done()


async def test_lines_of_a_batch_are_judged_by_the_same_table(front: Front) -> None:
    (jobs,) = (door for door in DOORS if door.name == "jobs")
    head = b'{"custom_id":"row %d","url":"/v1/jobs","body":'
    bodies = [body.data for body in GRAMMAR if b"\n" not in body.data]
    asks = [jobs.asking(jobs.at[row.field], row.value) for row in FIELDS if row.field in jobs.at]
    asks += [jobs.asking("images.0", value) for _, value in PICTURES]
    asks += [jobs.asking(name, {}) for name in UNKNOWN]
    bodies += [json.dumps(ask).encode() for ask in (*asks, jobs.asked)]
    lines = b"\n".join(head % at + data + b"}" for at, data in enumerate(bodies))
    sent = Sent(front, front.key)
    form = text("purpose", "batch") + file("file", lines) + END
    uploaded = await sent.taken("/v1/files", form, FORM)
    ask = {"input_file_id": uploaded["id"], "endpoint": "/v1/jobs"}
    batch = await sent.taken("/v1/batches", json.dumps(ask).encode(), JSON)
    sent.done()
    record = await front.context.batches.find(batch["id"])
    assert record is not None
    found = await plan_lines(front.context.objects, record.plan_key, Place(), len(bodies) + 1)
    assert len(found) == len(bodies)
    assert [line.custom_id for line in found if line.job is not None] == [f"row {len(bodies) - 1}"]


# -- D and E: every door that takes forms ---------------------------------------------------------


@pytest.mark.parametrize("door", FORM_DOORS, ids=lambda door: door.path)
class TestAForm:
    async def test_that_is_broken_is_refused(self, sent: Sent, door: FormDoor) -> None:
        for body in forms(door.parts, door.image, door.said):
            if body.name not in door.spared:
                await sent.refused(door.path, body)
        await sent.taken(door.path, door.form(), FORM)
        sent.done()

    async def test_names_the_field_that_is_not_right(self, sent: Sent, door: FormDoor) -> None:
        rows = [row for row in FIELDS if row.field in door.at and row.differs_as_text]
        for row in rows:
            if row.name in door.spared:
                continue
            words = row.value if isinstance(row.value, str) else json.dumps(row.value)
            body = row.body(door.form(**{row.field: words}), FORM)
            await sent.refused(door.path, body, params=(row.field + row.below,))
        await sent.taken(door.path, door.form(), FORM)
        sent.done()

    async def test_does_not_care_for_the_name_of_a_file(self, sent: Sent, door: FormDoor) -> None:
        for name in FILENAMES:
            head = f'Content-Disposition: form-data; name="{door.image}"; {name}'
            await sent.taken(door.path, door.parts + part(head, png()) + END, FORM)
        sent.done()
        kept = await sent.front.kept()
        assert all(KEY.fullmatch(key) for key in kept), kept


async def test_a_decoded_image_over_the_limit_is_refused_before_it_is_decoded(
    front: Front, start: Start
) -> None:
    limits = front.context.settings.limits.model_copy(update={"image_bytes": 10_000})
    small = await start(limits=limits)
    sent = Sent(small, small.key)
    too_long = base64.b64encode(png() + bytes(20_000)).decode()
    for door in DOORS:
        if door.picture is not None:
            data = json.dumps(door.asking(door.picture, too_long)).encode()
            named = (door.blamed.get("picture", door.picture),)
            await sent.refused(door.path, Body(f"H46 {door.name}", data, status=413), params=named)
    for form in FORM_DOORS:
        data = form.parts + file(form.image, png() + bytes(20_000)) + END
        body = Body(f"H46 {form.path}", data, FORM, status=413)
        await sent.refused(form.path, body, params=(form.image,))
    sent.done()


async def test_a_hundred_at_once_do_not_race_past_a_budget(front: Front) -> None:
    await front.context.tenants.change("alice", lambda tenant: replace(tenant, spend_per_day=0.07))
    sent = Sent(front, await front.new_key("alice"))  # one that nobody has looked up yet
    doors = [door for door in DOORS if door.path != "/v1/quotes" and not door.is_many]
    bodies = [json.dumps(door.asked).encode() for door in doors]
    answers = await asyncio.gather(
        *(
            sent.send(doors[at % len(doors)].path, bodies[at % len(doors)], JSON)
            for at in range(100)
        )
    )
    taken = [answer for answer in answers if answer.status == 202]
    assert len(taken) == await front.queued() == 7
    refused = [await answer.json() for answer in answers if answer.status == 402]
    assert len(refused) == 93
    assert {document["error"]["code"] for document in refused} == {"budget_exceeded"}


# -- what is odd, and right -----------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
async def test_an_odd_text_is_only_a_text(sent: Sent, door: Door) -> None:
    for words in ODD:
        ask = door.asking(door.at["prompt"], words)
        (ask[0] if door.is_many else ask)["metadata"] = {"words": words[:512]}
        if "user" in door.at:
            (ask[0] if door.is_many else ask)["user"] = words[:256]
        job = await sent.taken(door.path, json.dumps(ask).encode(), JSON)
        job = job["data"][0] if door.is_many else job
        if job["object"] == "job":
            assert job["request"]["prompt"] == words
            assert job["metadata"] == {"words": words[:512]}
            shown = await (await sent.front.get(f"/v1/jobs/{job['id']}")).json()
            assert shown["request"]["prompt"] == words
    sent.done()


async def test_no_text_makes_a_line_of_the_log(
    sent: Sent, capsys: pytest.CaptureFixture[str]
) -> None:
    door = DOORS[0]
    for words in ODD:
        await sent.taken(door.path, json.dumps(door.asking("prompt", words)).encode(), JSON)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(ODD)
    assert all(line.startswith("level='info' event='request'") for line in lines)
    told = "".join(lines)
    assert not any(words in told for words in ODD if len(words) > 3)


async def test_what_only_looks_wrong_is_taken(sent: Sent) -> None:
    ask = json.dumps({"prompt": "x"}).encode()
    for content_type in (
        f"{JSON}; charset=utf-8; x=y",
        f"{JSON}; charset=UTF-8",
        "Application/JSON",
    ):
        await sent.taken("/v1/jobs", ask, content_type)
    for name in ("DATA:IMAGE/PNG;BASE64,", "data:image/jpeg;base64,"):
        for door in DOORS:
            if door.picture is not None:
                document = door.asking(door.picture, name + IMAGE)
                await sent.taken(door.path, json.dumps(document).encode(), JSON)
    sent.done()


@pytest.mark.parametrize(
    "text",
    ["9" * 100_000, "1x" * 50_000, "data:image/png" + ";" * 100_000, "x" * 100_000, "W:" * 50_000],
)
async def test_no_pattern_takes_long(front: Front, text: str) -> None:
    began = time.process_time()
    for fields in (
        {"size": text},
        {"aspect_ratio": text},
        {"images": [text]},
        {"webhook_url": text},
        {"model": text},
    ):
        answer = await front.post("/v1/jobs", {"prompt": "x", **fields})
        assert answer.status in {400, 404}
    answer = await front.client.get(
        "/v1/jobs", headers={"Authorization": "Bearer dk_live_" + text[:7000]}
    )
    assert answer.status == 401
    assert time.process_time() - began < 0.5


# The threats that are no row of a table, with the test that shows each.
SHOWN_BY = {
    **dict.fromkeys((15, 19), TestADoor.test_refuses_or_tells_a_field_that_it_has_not),
    **dict.fromkeys((26, 27, 30, 31, 32), test_an_odd_text_is_only_a_text),
    **dict.fromkeys((28, 29), test_no_text_makes_a_line_of_the_log),
    33: test_no_pattern_takes_long,
    39: test_a_hundred_at_once_do_not_race_past_a_budget,
    45: test_what_only_looks_wrong_is_taken,
    46: test_a_decoded_image_over_the_limit_is_refused_before_it_is_decoded,
    57: TestAForm.test_does_not_care_for_the_name_of_a_file,
}


def test_each_threat_has_a_row_or_a_test() -> None:
    bodies = (*GRAMMAR, *TYPES, *forms(b"", "image", "prompt"))
    names = [*(body.name for body in bodies), *(row.name for row in FIELDS), *dict(PICTURES)]
    found = {int(number) for number in re.findall(r"\bH(\d+)\b", " ".join(names))}
    assert set(range(1, 62)) - found <= SHOWN_BY.keys()


class TestThePath:
    @pytest.mark.parametrize(
        "path",
        [
            "/v1/jobs/..%2f..%2fmetrics",
            "/v1/jobs/%2e%2e/x",
            "/v1//jobs",
            "/v1/jobs/a%00b",
            "/v1/jobs/" + "x" * 7000,
            "/v1/jobs/job;x=1",
            "/v1/jobs/%F0%9F%98%80",
            "/objects/..%2f..%2fetc/passwd",
            "/objects/t/a/b.png?expires=x&type=y&name=z&signature=w",
            "/v1/models/..%2f",
        ],
    )
    async def test_a_strange_path_is_not_found(self, front: Front, path: str) -> None:
        answer = await front.get(path)
        assert answer.status in {400, 403, 404}
        assert (await answer.json())["error"]["message"]

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "OPTIONS"])
    async def test_another_method_is_refused_with_those_that_work(
        self, front: Front, method: str
    ) -> None:
        answer = await front.request(method, "/v1/jobs")
        assert answer.status == 405
        assert "POST" in answer.headers["Allow"]
        assert (await answer.json())["error"]["code"] == "method_not_allowed"
