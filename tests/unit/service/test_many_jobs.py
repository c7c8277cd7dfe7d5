"""Many jobs in one request: an array on the native door."""

from typing import Any

from tests.unit.service.conftest import Front


def asks(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"fox {n}"} for n in range(count)]


async def test_each_job_of_an_array_is_taken_in_in_order(front: Front) -> None:
    answer = await front.post("/v1/jobs", asks(3))
    document = await answer.json()
    assert (answer.status, document["made"]) == (202, 3)
    assert [one["request"]["prompt"] for one in document["data"]] == ["fox 0", "fox 1", "fox 2"]
    assert await front.queued() == 3


async def test_one_that_is_refused_does_not_hold_up_the_others(front: Front) -> None:
    answer = await front.post("/v1/jobs", [{"prompt": ""}, *asks(1), 5])
    document = await answer.json()
    assert (answer.status, document["made"]) == (202, 1)
    first, _, last = document["data"]
    assert (first["error_status"], first["error"]["param"]) == (400, "prompt")
    assert last["error"]["code"] == "invalid_json"


async def test_the_same_key_finds_the_same_jobs(front: Front) -> None:
    headers = {"Idempotency-Key": "order-7"}
    ids = [
        [
            one["id"]
            for one in (await (await front.post("/v1/jobs", asks(3), headers=headers)).json())[
                "data"
            ]
        ]
        for _ in range(2)
    ]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3


async def test_an_array_holds_one_to_a_hundred_jobs(front: Front) -> None:
    for count, status in ((0, 400), (100, 202), (101, 400)):
        assert (await front.post("/v1/jobs", asks(count))).status == status, count


async def test_an_array_of_nothing_good_is_refused(front: Front) -> None:
    assert (await front.post("/v1/jobs", [{}, {"prompt": 5}])).status == 400


async def test_other_doors_take_no_array(front: Front) -> None:
    assert (await front.post("/v1/images/generations", asks(2))).status == 400
