"""The JSON in which a job is shown."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from storage.attempt import AttemptStatus, Cost, CostSource, Usage
from storage.document import LINK_LIFETIME, job_document, links_of
from storage.errors import Invalid
from storage.failure import Failure, FailureCode
from storage.job import Job
from storage.local import LocalObjects
from storage.objects import Link
from storage.request import Adaptation, Input
from tests.samples import NOW, a_job, a_picture, a_refusal, a_request


FIVE_CENTS = Cost(0.05, CostSource.REPORTED)
WARNINGS = [
    Adaptation(param="quality", action="adapted", requested="hd", used="high"),
    Adaptation(param="style", action="dropped", requested="vivid"),
]


def partial() -> Job:
    job = a_job(n=2, metadata={"order": "7"}, webhook_url="https://example.com/hook")
    job = job.claimed("f", NOW + 1.9).attempting("first", "openai", "f", NOW + 1.9)
    job = job.submitted(0, "task-7", "f")
    job = job.progressed(
        "f", [a_picture(0), a_refusal(1)], FIVE_CENTS, Usage(images=1), warnings=WARNINGS
    )
    job = job.attempted("f", NOW + 3, AttemptStatus.SUCCEEDED)
    return job.settled("f", NOW + 3.9)


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path, secret=b"x" * 32, base_url="https://darkroom.example")


def test_a_job_is_shown_whole() -> None:
    shown = job_document(partial(), {0: Link("https://link", NOW + 900.5)}, queue_position=None)
    assert shown == {
        "id": "job_1",
        "object": "job",
        "type": "generation",
        "status": "partial",
        "model": "painter",
        "created_at": int(NOW),
        "started_at": int(NOW) + 1,
        "finished_at": int(NOW) + 3,
        "queue_position": None,
        "eta": None,
        "n": 2,
        "request": {"prompt": "a lighthouse at dusk"},
        "images": [
            {
                "index": 0,
                "status": "succeeded",
                "url": "https://link",
                "url_expires_at": int(NOW) + 900,
                "content_type": "image/png",
                "width": 1024,
                "height": 1024,
                "bytes": 1000,
                "sha256": "0" * 64,
                "revised_prompt": None,
                "provenance": None,
            },
            {
                "index": 1,
                "status": "failed",
                "error": {"code": "content_policy", "message": "The upstream refused."},
            },
        ],
        "attempts": [
            {
                "number": 1,
                "deployment": "first",
                "provider": "openai",
                "upstream_id": "task-7",
                "status": "succeeded",
                "started_at": int(NOW) + 1,
                "finished_at": int(NOW) + 3,
                "cost": 0.05,
                "cost_source": "reported",
                "at_risk": 0.0,
                "usage": {"images": 1},
                "error": None,
            }
        ],
        "usage": {"images": 1},
        "cost": {"amount": 0.05, "currency": "USD", "source": "reported"},
        "warnings": [
            {"param": "quality", "action": "adapted", "requested": "hd", "used": "high"},
            {"param": "style", "action": "dropped", "requested": "vivid"},
        ],
        "error": {"code": "content_policy", "message": "The upstream refused."},
        "metadata": {"order": "7"},
        "webhook_url": "https://example.com/hook",
    }


def test_a_shown_job_is_json() -> None:
    assert orjson.loads(orjson.dumps(job_document(partial(), {})))["status"] == "partial"


def test_a_queued_job_shows_its_place_and_pending_images() -> None:
    shown = job_document(a_job(n=2), {}, queue_position=3)
    assert shown["queue_position"] == 3
    assert shown["images"] == [{"index": 0, "status": "pending"}, {"index": 1, "status": "pending"}]
    assert (shown["started_at"], shown["finished_at"], shown["usage"]) == (None, None, None)
    assert shown["cost"] == {"amount": None, "currency": "USD", "source": "unknown"}


def test_only_what_was_asked_is_in_the_request() -> None:
    shown = job_document(a_job(request=a_request(n=1, size="1024x1024", seed=0)), {})
    assert shown["request"] == {"prompt": "a lighthouse at dusk", "size": "1024x1024", "seed": 0}


def test_a_receiver_of_webhooks_does_not_see_the_prompt() -> None:
    job = a_job(request=a_request(negative_prompt="no people"))
    shown = job_document(job, {}, with_prompt=False)
    assert shown["request"] == {}


def test_inputs_are_shown_by_what_they_measure_and_never_by_where_they_are() -> None:
    given = Input(
        key="t/acme/job_1/in/0.png",
        url="https://example.com/?signature=secret",
        content_type="image/png",
        width=64,
        height=32,
        bytes=99,
        sha256="ab",
    )
    job = a_job(request=a_request(images=(given,), mask=replace(given, width=7)))
    shown = job_document(job, {})["request"]
    assert shown["images"] == [
        {"content_type": "image/png", "width": 64, "height": 32, "bytes": 99, "sha256": "ab"}
    ]
    assert shown["mask"]["width"] == 7
    assert b"secret" not in orjson.dumps(shown)
    assert b"t/acme" not in orjson.dumps(shown)


def test_nothing_shown_names_an_object_of_ours() -> None:
    assert b"t/acme/" not in orjson.dumps(job_document(partial(), {}))


def test_each_image_that_was_made_gets_a_fresh_link(objects: LocalObjects) -> None:
    links = links_of(partial(), objects, NOW)
    assert set(links) == {0}
    assert links[0].url.startswith("https://darkroom.example/objects/t/acme/job_1/1/0.png?")
    assert links[0].expires_at == NOW + LINK_LIFETIME
    assert "job_1-0.png" in links[0].url


def test_a_link_lives_as_long_as_asked_and_never_longer_than_a_day(objects: LocalObjects) -> None:
    assert links_of(partial(), objects, NOW, lifetime=3600)[0].expires_at == NOW + 3600
    with pytest.raises(Invalid):
        links_of(partial(), objects, NOW, lifetime=86_401)


def test_an_image_whose_link_is_missing_is_shown_without_one() -> None:
    shown = job_document(partial(), {})["images"][0]
    assert (shown["url"], shown["url_expires_at"]) == (None, None)


def test_an_image_that_failed_for_a_reason_of_its_own_says_it() -> None:
    failure = Failure(code=FailureCode.STORAGE_ERROR, message="Not kept.")
    job = a_job().failed(failure, NOW)
    assert job_document(job, {})["images"][0]["error"] == {
        "code": "storage_error",
        "message": "Not kept.",
    }


def test_what_may_have_been_charged_is_shown_beside_what_is_known() -> None:
    begun = a_job().claimed("run", NOW).attempting("first", "sketch", "run", NOW, quote=0.05)
    lost = begun.failed(Failure(code=FailureCode.OUTCOME_UNKNOWN, message="Lost."), NOW)
    shown = job_document(lost, {})
    assert shown["cost"] == {
        "amount": None,
        "currency": "USD",
        "source": "unknown",
        "at_risk": 0.05,
    }
    assert shown["attempts"][0]["at_risk"] == 0.05
