"""When an endpoint is given up, and when it is not."""

import pytest

from storage.endpoint import GIVE_UP_AFTER, DisabledReason, Receivers, WebhookEndpoint
from tests.samples import NOW, an_endpoint


DAY = 86_400.0


def failing(*, days: float, messages: int) -> WebhookEndpoint:
    """Return an endpoint of which so many messages failed over so many days."""
    endpoint = an_endpoint()
    for at in range(messages):
        moment = NOW + days * DAY * at / max(messages - 1, 1)
        endpoint = endpoint.refused(f"msg_{at}", moment)
    return endpoint


def test_one_that_says_it_is_gone_is_disabled_at_once() -> None:
    endpoint = an_endpoint().refused("msg_1", NOW, gone=True)
    assert not endpoint.is_enabled
    assert (endpoint.disabled_reason, endpoint.disabled_at) == (DisabledReason.GONE, NOW)


def test_five_days_of_nothing_but_failures_disable_it() -> None:
    endpoint = failing(days=5, messages=3)
    assert (endpoint.disabled_reason, endpoint.failing_since) == (DisabledReason.FAILING, NOW)


def test_less_than_five_days_do_not() -> None:
    assert failing(days=4.99, messages=50).is_enabled


def test_days_of_failures_of_two_messages_only_do_not() -> None:
    endpoint = failing(days=30, messages=2)
    assert endpoint.refused("msg_0", NOW + 31 * DAY).is_enabled
    assert not endpoint.refused("msg_9", NOW + 31 * DAY).is_enabled


def test_one_success_starts_it_anew() -> None:
    endpoint = failing(days=4.9, messages=3).took()
    assert (endpoint.failing_since, endpoint.failed) == (None, ())
    assert endpoint.refused("msg_7", NOW + 6 * DAY).is_enabled


def test_the_days_can_be_stretched() -> None:
    endpoint = an_endpoint()
    for at in range(3):
        endpoint = endpoint.refused(f"msg_{at}", NOW + at, scale=1e-6)
    assert not endpoint.is_enabled


def test_what_tells_nothing_new_changes_nothing() -> None:
    endpoint = failing(days=1, messages=3)
    assert endpoint.refused("msg_1", NOW + 2 * DAY) is endpoint
    assert endpoint.refused("msg_4", NOW + 2 * DAY) is endpoint
    fine = an_endpoint()
    assert fine.took() is fine


def test_the_first_reason_stays() -> None:
    endpoint = an_endpoint().disabled(DisabledReason.OWNER, NOW)
    assert endpoint.disabled(DisabledReason.GONE, NOW + 5) is endpoint


def test_one_that_is_enabled_again_has_its_failures_forgotten() -> None:
    endpoint = failing(days=6, messages=3).enabled()
    assert endpoint.is_enabled
    assert (endpoint.disabled_reason, endpoint.failing_since, endpoint.failed) == (None, None, ())
    assert endpoint.refused("msg_8", NOW + 2 * GIVE_UP_AFTER).is_enabled


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_tenants_endpoints_come_the_oldest_first(order: tuple[int, ...]) -> None:
    endpoints = [an_endpoint(f"we_{at}", created_at=NOW + at) for at in order]
    assert [one.id for one in Receivers.of(1, endpoints).endpoints] == ["we_0", "we_1", "we_2"]


def test_its_address_is_not_in_its_text() -> None:
    assert "example" not in repr(an_endpoint(url="https://example.com/?token=1"))
