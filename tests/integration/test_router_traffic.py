"""What upstreams see of three workers: limits kept and used, pauses honoured, failures gone around.

The full figures come from `python -m tests.bench traffic`; here each trial is as long as a check
can bear.
"""

import pytest

from tests.bench import traffic


async def test_a_limit_is_kept_and_used_over_workers() -> None:
    seen = await traffic.limit(seconds=12, call=2.0)
    assert seen.succeeded == seen.jobs
    assert seen.most == seen.limit
    assert seen.use >= 0.9  # 95 % and more on a machine that does nothing else


async def test_a_limit_is_kept_while_workers_are_killed() -> None:
    seen = await traffic.limit(seconds=12, kill_every=4)
    assert seen.kills >= 2
    assert seen.succeeded == seen.jobs
    assert seen.most == seen.limit


async def test_nobody_calls_while_an_upstream_asked_for_a_pause() -> None:
    seen = await traffic.pause(hint=5)
    assert seen.during == 0
    assert seen.succeeded == seen.jobs
    assert seen.seconds <= seen.hint + 5


async def test_a_deployment_that_fails_is_gone_around_and_taken_up_again() -> None:
    seen = await traffic.failover(seconds=12, rate=10, healthy=10)
    assert seen.succeeded >= 0.995 * seen.jobs
    assert seen.failing_calls <= 1.1 * seen.allowed
    assert seen.recovery <= 10
    assert seen.calls_after >= 10


@pytest.mark.timeout(180)
async def test_jobs_wait_out_the_failure_of_their_only_deployment() -> None:
    seen = await traffic.outage(seconds=12)
    assert seen.succeeded == seen.jobs
    assert seen.calls <= 1.1 * seen.jobs + 12
    assert seen.recovery <= 10
