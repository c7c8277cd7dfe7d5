"""What a receiver is told, and what is left of it when there is too much to tell."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from storage.attempt import Attempt, AttemptStatus
from storage.batch import Batch, BatchId
from storage.batch_document import batch_document
from storage.delivery import Delivery, message_to
from storage.document import Linked
from storage.failure import Failure, FailureCode
from storage.job import Job
from storage.objects import Link
from storage.outbox import new_delivery_id
from storage.rendition import Rendition, RenditionStatus
from tests.samples import NOW, a_job, a_picture, a_request, an_endpoint
from worker.message import LIMIT, body_of


URL = "https://darkroom.example"
LONG = Link("https://objects.example/" + "signed" * 200, NOW + 900)


def told(
    job: Job | None,
    links: dict[Linked, Link] | None = None,
    *,
    with_prompt: bool = False,
    **fields: Any,
) -> Any:
    """Return the message about a job, which has to be short enough."""
    delivery = replace(
        message_to(an_endpoint(), "job.succeeded", new_delivery_id(), NOW, job_id="job_1"),  # type: ignore[arg-type]  # a plain id
        **fields,
    )
    body = body_of(delivery, job, links or {}, with_prompt=with_prompt, public_url=URL + "/")
    assert len(body) < LIMIT
    return orjson.loads(body)


def with_images(count: int, **fields: Any) -> tuple[Job, dict[Linked, Link]]:
    images = tuple(replace(a_picture(index), **fields) for index in range(count))
    return replace(a_job(), images=images), dict.fromkeys(range(count), LONG)


# -- what is said ----------------------------------------------------------------------------------


def test_a_message_says_what_happened_and_when_and_shows_the_job() -> None:
    message = told(a_job())
    assert set(message) == {"type", "timestamp", "data"}
    assert (message["type"], message["timestamp"]) == ("job.succeeded", "2027-01-15T08:00:00.000Z")
    assert (message["data"]["object"], message["data"]["id"]) == ("job", "job_1")
    assert "truncated" not in message["data"]


SECRETIVE = a_request(
    prompt="a lighthouse", negative_prompt="a lighthouse", options={"style": "a lighthouse"}
)


@pytest.mark.parametrize("opted_in", [True, False])
def test_no_word_of_a_prompt_is_said_unless_it_is_asked_for(opted_in: bool) -> None:
    image = replace(a_picture(), revised_prompt="a lighthouse")
    job = replace(a_job(), request=SECRETIVE, images=(image,))
    message = told(job, {0: LONG}, with_prompt=opted_in, type="job.image_ready", image=0)
    assert orjson.dumps(message).count(b"a lighthouse") == (5 if opted_in else 0)


def test_one_image_that_is_ready_is_shown_by_itself_too() -> None:
    job, links = with_images(2)
    data = told(job, links, type="job.image_ready", image=1)["data"]
    assert data["image"] == data["images"][1]
    assert (data["image"]["index"], data["image"]["url"]) == (1, LONG.url)


def test_a_job_that_was_deleted_is_named_and_no_more() -> None:
    assert told(None)["data"] == {"id": "job_1", "object": "job", "deleted": True}


def test_the_query_of_a_jobs_own_receiver_is_shown_to_nobody_else() -> None:
    job = replace(a_job(), webhook_url="https://receiver.example/hook?token=pass")
    assert told(job)["data"]["webhook_url"] == "https://receiver.example/hook"
    assert told(job, endpoint_id=None)["data"]["webhook_url"] == job.webhook_url


# -- what is too long ------------------------------------------------------------------------------


def test_images_are_cut_and_the_message_says_where_all_of_them_are() -> None:
    job, links = with_images(1000)
    data = told(job, links)["data"]
    assert data["truncated"] == {"fields": ["images"], "url": URL + "/v1/jobs/job_1"}
    assert [image["index"] for image in data["images"]] == list(range(len(data["images"])))
    assert len(data["images"]) >= 5
    assert data["images"][0]["url"] == LONG.url


@pytest.mark.parametrize("letter", ["x", "\x01", "🦊", '"'])
def test_ten_images_with_long_words_and_prompts_that_are_asked_for_still_fit(letter: str) -> None:
    job, links = with_images(10, revised_prompt=letter * 4000)
    job = replace(job, request=a_request(prompt=letter * 32_000, n=10))
    data = told(job, links, with_prompt=True, type="job.image_ready", image=3)["data"]
    assert data["image"]["url"] == LONG.url, "a link is whole or not there"
    assert data["request"]["prompt"] == letter * len(data["request"]["prompt"])
    assert "request.prompt" in data["truncated"]["fields"]


def test_a_prompt_that_begins_like_a_link_is_cut_as_any_other() -> None:
    job = replace(a_job(), request=a_request(prompt="https://" + "x" * 32_000))
    data = told(job, with_prompt=True)["data"]
    assert data["truncated"]["fields"] == ["request.prompt"]


def test_what_an_upstream_says_at_length_is_cut() -> None:
    failure = Failure(code=FailureCode.UPSTREAM_ERROR, message="no " * 20_000)
    attempts = tuple(
        Attempt(
            number=number,
            deployment="first",
            provider="sketch",
            fence="f",
            started_at=NOW,
            status=AttemptStatus.FAILED,
            error=failure,
        )
        for number in range(100)
    )
    data = told(replace(a_job(), error=failure, attempts=attempts))["data"]
    assert set(data["truncated"]["fields"]) == {"attempts", "error.message"}
    assert data["error"]["code"] == "upstream_error"


def test_many_renditions_of_one_image_are_cut() -> None:
    made = tuple(
        Rendition(name=f"r{n}", status=RenditionStatus.SUCCEEDED, key=f"k{n}") for n in range(16)
    )
    job, links = with_images(1, renditions=made)
    links |= {(0, one.name): Link(LONG.url * 3, LONG.expires_at) for one in made}
    data = told(job, links, type="job.image_ready", image=0)["data"]
    assert "image.renditions" in data["truncated"]["fields"]
    assert data["image"]["url"] == LONG.url


NAMES = {f"name {number}": "\x01" * 512 for number in range(16)}


def test_the_names_and_values_of_a_job_are_cut_as_one() -> None:
    data = told(replace(a_job(), metadata=NAMES))["data"]
    assert (data["metadata"], data["truncated"]["fields"]) == ({}, ["metadata"])


def test_a_batch_with_much_to_say_is_cut_too() -> None:
    batch = Batch(
        id=BatchId("batch_1"),
        tenant="acme",
        endpoint="/v1/jobs",
        created_at=NOW,
        window=3600.0,
        plan="p",
        metadata=NAMES,
    )
    said = batch_document(batch)
    message = told(None, type="batch.completed", job_id=None, data=orjson.dumps(said).decode())
    assert message["data"] == {
        **said,
        "metadata": {},
        "truncated": {"fields": ["metadata"], "url": URL + "/v1/batches/batch_1"},
    }


def test_what_is_short_enough_is_sent_as_it_was_said() -> None:
    delivery: Delivery = message_to(
        an_endpoint(), "webhook_endpoint.test", new_delivery_id(), NOW, data='{"z":1,"a":[]}'
    )
    body = body_of(delivery, None, {}, with_prompt=False, public_url=URL)
    assert body.endswith(b'"data":{"z":1,"a":[]}}')
