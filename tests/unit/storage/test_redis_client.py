"""Single commands to Redis: sent together, answered apart, and never left waiting."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Self, cast

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

from storage.errors import Unavailable
from storage.redis_client import AnyRedis, Commands, unavailable
from tests.doubles import fake_redis


class Wire:
    """Stands where redis-py does: notes what leaves together, and answers when it is told to."""

    def __init__(self, answer: Callable[[tuple[Any, ...]], Any] = lambda command: command) -> None:
        self.flights: list[list[tuple[Any, ...]]] = []
        self.gate = asyncio.Event()
        self._answer = answer

    async def execute_command(self, *command: Any) -> Any:
        return (await self.fly([command]))[0]

    def pipeline(self, *, transaction: bool) -> "Pipeline":
        assert not transaction
        return Pipeline(self)

    async def fly(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        self.flights.append(commands)
        await self.gate.wait()
        return [self._answer(command) for command in commands]


class Pipeline:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *command: Any) -> Self:
        self._commands.append(command)
        return self

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        return await self._wire.fly(self._commands)


def over(wire: Wire) -> Commands:
    return Commands(cast("AnyRedis", wire))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def real() -> AsyncIterator[Commands]:
    commands = Commands(fake_redis())
    yield commands
    await commands.close()


async def test_each_caller_gets_the_answer_to_its_own_command(real: Commands) -> None:
    await asyncio.gather(*(real.execute("SET", f"key {at}", at) for at in range(300)))
    answers = await asyncio.gather(*(real.execute("GET", f"key {at}") for at in range(300)))
    assert answers == [str(at).encode() for at in range(300)]


async def test_commands_issued_together_leave_together() -> None:
    wire = Wire()
    commands = over(wire)
    waiting = [commands.issue("PING", at) for at in range(50)]
    await settle()
    assert [len(flight) for flight in wire.flights] == [50]
    wire.gate.set()
    assert await asyncio.gather(*waiting) == [("PING", at) for at in range(50)]


async def test_at_most_four_flights_are_under_way() -> None:
    wire = Wire()
    commands = over(wire)
    waiting = []
    for at in range(20):
        waiting.append(commands.issue("PING", at))
        await settle()
    assert len(wire.flights) == 4
    wire.gate.set()
    assert await asyncio.gather(*waiting) == [("PING", at) for at in range(20)]


async def test_a_command_that_comes_when_all_flights_land_is_not_left_behind() -> None:
    wire = Wire()
    commands = over(wire)

    async def twice(at: int) -> None:
        await commands.execute("PING", at)
        await commands.execute("PING", at)

    callers = []
    for at in range(4):
        callers.append(asyncio.create_task(twice(at)))
        await settle()
    wire.gate.set()
    async with asyncio.timeout(2):
        await asyncio.gather(*callers)


async def test_one_refused_command_is_its_callers_business_alone(real: Commands) -> None:
    await real.execute("SET", "word", "text")
    answers = await asyncio.gather(
        real.execute("GET", "word"), real.execute("INCR", "word"), return_exceptions=True
    )
    assert answers[0] == b"text"
    assert isinstance(answers[1], ResponseError)


async def test_a_lost_connection_is_told_to_all_who_were_on_it() -> None:
    def lost(_: tuple[Any, ...]) -> Any:
        raise RedisConnectionError("prompt: a secret")

    wire = Wire(lost)
    wire.gate.set()
    commands = over(wire)
    answers = await asyncio.gather(
        *(commands.execute("PING", at) for at in range(3)), return_exceptions=True
    )
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert not any("secret" in str(answer) for answer in answers)


async def test_a_fault_reaches_the_caller_as_itself_and_not_as_a_cancellation() -> None:
    def broken(_: tuple[Any, ...]) -> Any:
        raise RuntimeError("a fault of ours")

    wire = Wire(broken)
    wire.gate.set()
    commands = over(wire)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await commands.execute("PING")


async def test_a_caller_who_gives_up_takes_nobody_along() -> None:
    wire = Wire()
    commands = over(wire)
    hasty = asyncio.create_task(commands.execute("PING", 1))
    patient = asyncio.create_task(commands.execute("PING", 2))
    await settle()
    hasty.cancel()
    wire.gate.set()
    assert await patient == ("PING", 2)
    assert await commands.execute("PING", 3) == ("PING", 3)


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
    ],
)
def test_a_redis_that_takes_no_writes_is_unavailable_for_longer(error: Exception) -> None:
    meaning = unavailable(error)
    assert meaning is not None
    assert (meaning.code, meaning.retry_after) == ("store_full", 5.0)


@pytest.mark.parametrize("error", [ResponseError("WRONGTYPE Operation"), ValueError("ours")])
def test_a_fault_of_ours_is_not_called_an_outage(error: Exception) -> None:
    assert unavailable(error) is None
