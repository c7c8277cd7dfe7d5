"""Single commands to Redis: sent together, answered apart, and never left waiting."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from storage.redis_client import Commands, stopped, unavailable
from tests.doubles import fake_redis


@pytest.fixture
async def real() -> AsyncIterator[Commands]:
    commands = Commands(fake_redis())
    yield commands
    await commands.close()


async def test_each_caller_gets_the_answer_to_its_own_command(real: Commands) -> None:
    await asyncio.gather(*(real.execute("SET", f"key {at}", at) for at in range(300)))
    answers = await asyncio.gather(*(real.execute("GET", f"key {at}") for at in range(300)))
    assert answers == [str(at).encode() for at in range(300)]


async def test_one_refused_command_is_its_callers_business_alone(real: Commands) -> None:
    await real.execute("SET", "word", "text")
    answers = await asyncio.gather(
        real.execute("GET", "word"), real.execute("INCR", "word"), return_exceptions=True
    )
    assert answers[0] == b"text"
    assert isinstance(answers[1], ResponseError)


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("gone"),
        AuthenticationError("gone"),
        RedisTimeoutError("gone"),
        BusyLoadingError("gone"),
        ReadOnlyError("gone"),
        ConnectionResetError("gone"),
        TimeoutError("gone"),
    ],
)
def test_a_redis_that_does_not_answer_is_unavailable(error: Exception) -> None:
    meaning = unavailable(error)
    assert meaning is not None
    assert meaning.code == "store_unavailable"


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        ResponseError("MISCONF Redis is configured to save RDB snapshots"),
        ResponseError("NOREPLICAS Not enough good replicas to write."),
        ResponseError("MASTERDOWN Link with MASTER is down"),
        ResponseError(
            "Error running script (call to f_0): @user_script:21: @user_script: 21: "
            "-OOM command not allowed when used memory > 'maxmemory'."
        ),
    ],
)
def test_a_redis_that_takes_no_writes_is_unavailable_for_longer(error: Exception) -> None:
    meaning = unavailable(error)
    assert meaning is not None
    assert (meaning.code, meaning.retry_after) == ("store_full", 5.0)


@pytest.mark.parametrize("error", [ResponseError("WRONGTYPE Operation"), ValueError("ours")])
def test_a_fault_of_ours_is_not_called_an_outage(error: Exception) -> None:
    assert unavailable(error) is None


async def test_a_task_that_forgets_a_cancellation_is_told_again() -> None:
    forgot = 0

    async def forgetful() -> None:
        nonlocal forgot
        while True:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                forgot += 1
                if forgot == 3:
                    raise

    task = asyncio.create_task(forgetful())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await stopped(task)
    assert task.cancelled()
    assert forgot == 3


async def test_a_task_that_ended_in_a_fault_has_ended() -> None:
    async def faulty() -> None:
        raise ZeroDivisionError

    task = asyncio.create_task(faulty())
    await asyncio.sleep(0)
    await stopped(task)
    assert isinstance(task.exception(), ZeroDivisionError)
    await stopped()
