import pytest
from structlog.testing import capture_logs

from tests.unit.service.conftest import Front


async def test_a_line_names_who_what_and_how_it_went(front: Front) -> None:
    with capture_logs() as lines:
        answer = await front.post("/v1/jobs", {"prompt": "x"})
    (line,) = [line for line in lines if line["event"] == "request"]
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert (line["tenant"], line["route"], line["status"]) == ("alice", "/v1/jobs", 202)
    assert line["job_id"] == (await answer.json())["id"]
    assert line["ms"] >= 0


@pytest.mark.parametrize("canary", ["a secret prompt", "sk-canary"])
async def test_nothing_private_gets_in(front: Front, canary: str) -> None:
    with capture_logs() as lines:
        await front.post("/v1/jobs", {"prompt": canary})
        await front.post("/v1/jobs", {"prompt": 1, canary: 2})
        await front.get("/v1/jobs", headers={"Authorization": f"Bearer {canary}"})
        await front.client.get(f"/objects/x?signature={canary}")
        await front.get(f"/{canary}")
        await front.get(f"/v1/jobs/{canary}")
        await front.get("/v1/jobs", headers={"X-Request-Id": canary + "\t"})
    assert len(lines) == 7
    assert canary not in repr(
        [{k: v for k, v in line.items() if k != "request_id"} for line in lines]
    )
    assert front.key not in repr(lines)


async def test_health_checks_are_not_worth_a_line(front: Front) -> None:
    with capture_logs() as lines:
        await front.client.get("/livez")
        await front.client.get("/metrics")
    assert lines == []
