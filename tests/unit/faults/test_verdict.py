"""Every promise that the verdict counts can be broken."""

from dataclasses import replace
from typing import Any

import pytest

from tests.faults.verdict import Evidence, verdict


DONE: dict[str, Any] = {
    "status": "succeeded",
    "finished_at": 5,
    "error": None,
    "images": [{"index": 0, "status": "succeeded", "sha256": "a", "url": "http://one"}],
    "attempts": [{"number": 1}],
}
GOOD = Evidence(
    jobs={"job_1": DONE},
    again={"job_1": DONE | {"images": [DONE["images"][0] | {"url": "http://another"}]}},
    told={"job_1": [("msg_1", "job.succeeded"), ("msg_1", "job.succeeded")]},
    calls={"job_1": 1},
    orphans=3,
)


def test_a_job_that_ended_once_and_told_of_it_breaks_nothing() -> None:
    assert verdict(GOOD).broken == 0
    assert str(verdict(GOOD)) == "1 jobs (1 succeeded)"


@pytest.mark.parametrize(
    ("promise", "seen"),
    [
        ("lost", replace(GOOD, jobs={"job_1": {}}, again={"job_1": {}})),
        (
            "unended",
            replace(
                GOOD,
                jobs={"job_1": DONE | {"status": "running"}},
                again={"job_1": DONE | {"status": "running"}},
                told={"job_1": [("msg_1", "job.running")]},
            ),
        ),
        ("moved", replace(GOOD, again={"job_1": DONE | {"finished_at": 6}})),
        ("moved", replace(GOOD, again={"job_1": DONE | {"images": []}})),
        ("untold", replace(GOOD, told={"job_1": []})),
        (
            "told_twice",
            replace(GOOD, told={"job_1": [("msg_1", "job.succeeded"), ("msg_2", "job.succeeded")]}),
        ),
        ("told_wrong", replace(GOOD, told={"job_1": [("msg_1", "job.failed")]})),
        ("unrecorded_calls", replace(GOOD, calls={"job_1": 2})),
        ("dangling", replace(GOOD, dangling=1)),
        ("left", replace(GOOD, left=1)),
    ],
)
def test_a_broken_promise_is_counted_and_named(promise: str, seen: Evidence) -> None:
    found = verdict(seen)
    assert (found.broken, getattr(found, promise)) == (1, 1)
    assert str(found).endswith(f": {promise} 1")


def test_nobody_has_to_be_told_where_there_is_no_hook() -> None:
    assert verdict(replace(GOOD, told={"job_1": []}, hooks=False)).broken == 0
