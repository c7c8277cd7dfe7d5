"""Money at the doors: quotes, limits and bills."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import FormData

from storage.bill import day_of
from storage.catalog import Catalog, parse
from storage.gate import Gate
from storage.tenant import new_key
from storage.traffic import Report, Traffic, Verdict
from tests.unit.service.conftest import Front
from tests.unit.service.pictures import png


CATALOG = """
default_model = "painter"
[aliases]
"old-painter" = "painter"
[[deployments]]
name = "cheap"
model = "painter"
provider = "openai"
api_key_env = "A"
price = { per_image = 0.05, per_quality = { low = 0.01 }, as_of = "2026-11-21" }
[[deployments]]
name = "dear"
model = "painter"
provider = "bfl"
api_key_env = "B"
price = { per_image = 0.2 }
[[deployments]]
name = "secret"
model = "unpriced"
provider = "sketch"
[[deployments]]
name = "generates"
model = "generator"
provider = "zai"
api_key_env = "C"
"""


@pytest.fixture
def catalog() -> Catalog:
    return parse(CATALOG)


async def quoted(front: Front, **fields: Any) -> dict[str, Any]:
    answer = await front.post("/v1/quotes", {"model": "painter", "prompt": "a dog", **fields})
    assert answer.status == 200, await answer.text()
    document: dict[str, Any] = await answer.json()
    return document


async def error_of(front: Front, path: str, body: dict[str, Any]) -> tuple[int, str, str | None]:
    answer = await front.post(path, body)
    error = (await answer.json())["error"]
    return answer.status, error["code"], error["param"]


async def limited(front: Front, dollars: float | None) -> None:
    """Set the tenant's daily limit."""
    await front.context.tenants.change(
        "alice", lambda tenant: replace(tenant, spend_per_day=dollars)
    )
    front.key = await front.new_key("alice")  # one that nobody has looked up yet


# -- quotes ----------------------------------------------------------------------------------------


async def test_a_quote_names_every_deployment_the_cheapest_first(front: Front) -> None:
    quote = await quoted(front, n=2, model="old-painter")
    assert (quote["model"], quote["n"], quote["currency"]) == ("painter", 2, "USD")
    assert [(q["deployment"], q["cost"]["amount"]) for q in quote["quotes"]] == [
        ("cheap", 0.1),
        ("dear", 0.4),
    ]
    assert quote["quotes"][0]["cost"]["source"] == "price_table"
    assert quote["quotes"][0]["as_of"] == "2026-11-21"
    assert quote["warnings"][0]["param"] == "model"


async def test_a_quote_says_what_would_be_lost_and_who_cannot(front: Front) -> None:
    quote = await quoted(front, background="transparent")
    lost = {q["deployment"]: [w["param"] for w in q["warnings"]] for q in quote["quotes"]}
    assert lost == {"cheap": [], "dear": ["background"]}
    form = FormData({"model": "generator", "prompt": "a dog"})
    form.add_field("image", png(8, 8), filename="a.png", content_type="image/png")
    answer = await front.request("POST", "/v1/quotes", data=form)
    [only] = (await answer.json())["quotes"]
    assert (only["able"], only["param"]) == (False, "image")
    assert only["cost"]["amount"] is None


async def test_a_price_that_is_not_listed_is_unknown(front: Front) -> None:
    [only] = (await quoted(front, model="unpriced"))["quotes"]
    assert only["cost"] == {"amount": None, "currency": "USD", "source": "unknown"}


async def test_a_quote_keeps_nothing(front: Front) -> None:
    await quoted(front)
    assert (await (await front.get("/v1/jobs")).json())["data"] == []


async def test_a_quote_refuses_what_a_submission_would(front: Front) -> None:
    assert await error_of(front, "/v1/quotes", {"prompt": "x", "model": "none"}) == (
        404,
        "model_not_found",
        "model",
    )
    assert await error_of(front, "/v1/quotes", {"prompt": "x", "nonsense": 1}) == (
        400,
        "unknown_parameter",
        "nonsense",
    )


# -- max_cost --------------------------------------------------------------------------------------


async def test_a_job_that_is_known_to_cost_more_than_its_limit_is_refused(front: Front) -> None:
    body = {"prompt": "a dog", "n": 2, "max_cost": 0.09}
    assert await error_of(front, "/v1/jobs", body) == (400, "max_cost_exceeded", "max_cost")
    assert (await front.post("/v1/jobs", {**body, "max_cost": 0.1})).status == 202
    assert (await front.post("/v1/jobs", {**body, "quality": "low"})).status == 202


async def test_a_price_that_nobody_knows_refuses_only_a_strict_job(front: Front) -> None:
    body = {"prompt": "a dog", "model": "unpriced", "max_cost": 0.01}
    assert (await front.post("/v1/jobs", body)).status == 202
    assert await error_of(front, "/v1/jobs", {**body, "strict": True}) == (
        400,
        "price_unknown",
        "max_cost",
    )


# -- budgets ---------------------------------------------------------------------------------------


async def test_a_tenant_cannot_go_beyond_its_day(front: Front) -> None:
    await limited(front, 0.25)
    body = {"prompt": "a dog"}
    assert (await front.post("/v1/jobs", body)).status == 202  # sets aside what the dearest asks
    answer = await front.post("/v1/jobs", body)
    assert answer.status == 402
    assert (await answer.json())["error"]["code"] == "budget_exceeded"
    assert 0 < int(answer.headers["Retry-After"]) <= 86_400
    assert len((await (await front.get("/v1/jobs")).json())["data"]) == 1
    await limited(front, None)
    assert (await front.post("/v1/jobs", body)).status == 202


async def test_a_key_cannot_go_beyond_its_own_day(front: Front) -> None:
    key, text = new_key("alice", 0.0, spend_per_day=0.25)
    await front.context.tenants.add_key(key)
    mine = {"headers": {"Authorization": f"Bearer {text}"}}
    assert (await front.post("/v1/jobs", {"prompt": "a dog"}, **mine)).status == 202
    answer = await front.post("/v1/jobs", {"prompt": "a dog"}, **mine)
    assert answer.status == 402
    error = (await answer.json())["error"]
    assert (error["code"], "this key" in error["message"]) == ("budget_exceeded", True)
    assert (await front.post("/v1/jobs", {"prompt": "a dog"})).status == 202


async def test_what_was_spent_before_the_limit_was_set_counts(front: Front) -> None:
    for _ in range(3):
        job = await (await front.post("/v1/jobs", {"prompt": "a dog"})).json()
        kept = await front.context.jobs.find(job["id"])
        assert kept is not None
        await front.worker.finish(kept)  # each costs a cent
    await limited(front, 0.22)
    assert (await front.post("/v1/jobs", {"prompt": "a dog"})).status == 402


# -- bills -----------------------------------------------------------------------------------------


async def test_usage_shows_what_jobs_came_to(front: Front) -> None:
    for number in (1, 2):
        body = {"prompt": "a dog", "n": number}
        job = await (await front.post("/v1/jobs", body)).json()
        kept = await front.context.jobs.find(job["id"])
        assert kept is not None
        await front.worker.finish(kept)
    usage = await (await front.get("/v1/usage")).json()
    today = day_of(datetime.now(UTC).timestamp())
    assert usage["to"] == today
    sums = {"jobs": 2, "images": 3, "cost": 0.02, "unknown": 0, "at_risk": 0.0}
    assert usage["data"] == [{"day": today, "model": "painter", **sums}]
    assert usage["total"] == sums
    assert (usage["currency"], usage["spend_per_day"]) == ("USD", None)


async def test_usage_of_other_days_and_tenants_is_apart(front: Front) -> None:
    job = await (await front.post("/v1/jobs", {"prompt": "a dog"})).json()
    kept = await front.context.jobs.find(job["id"])
    assert kept is not None
    await front.worker.finish(kept)
    past = await (await front.get("/v1/usage?from=2025-01-01&to=2025-03-31")).json()
    assert (past["data"], past["from"], past["to"]) == ([], "2025-01-01", "2025-03-31")
    headers = {"Authorization": f"Bearer {await front.new_key('other')}"}
    assert (await (await front.get("/v1/usage", headers=headers)).json())["data"] == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("from=yesterday", "from"),
        ("to=2026-02-30", "to"),
        ("to=2026-1-1", "to"),
        ("from=2026-02-02&to=2026-02-01", "from"),
        ("from=2024-01-01&to=2026-02-01", "from"),
        ("day=2026-02-01", "day"),
        ("from=2026-02-01&from=2026-02-02", "from"),
    ],
)
async def test_days_that_make_no_sense_are_refused(front: Front, query: str, param: str) -> None:
    answer = await front.get(f"/v1/usage?{query}")
    assert answer.status == 400
    assert (await answer.json())["error"]["param"] == param


# -- figures ---------------------------------------------------------------------------------------


async def test_the_figures_say_which_deployments_are_switched_off(front: Front) -> None:
    traffic = Traffic(front.context.commands, lease=1.0)
    refused = Report(verdict=Verdict.TRIP, seconds=60, reason="auth")
    await traffic.report(Gate("cheap"), refused)
    page = await (await front.client.get("/metrics")).text()
    assert 'darkroom_deployment_state{deployment="cheap",state="switched_off"} 1.0' in page
    assert 'darkroom_deployment_state{deployment="dear",state="open"} 1.0' in page
    assert 'darkroom_deployment_jobs{deployment="dear",what="waiting"} 0.0' in page
