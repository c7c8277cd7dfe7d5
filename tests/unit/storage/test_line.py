"""One connection, many callers: against a server that shows what left together, and can hang."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from deploy.probe import free_port
from storage.errors import Unavailable
from storage.line import Line
from storage.redis_client import Commands


class Server:
    """Answers each ECHO with its word once the gate is open; notes every read, and may hang up."""

    def __init__(self) -> None:
        self.reads: list[int] = []
        self.connections = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.hangs_up_at: bytes | None = None
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while data := await reader.read(1 << 20):
                parts = data.split(b"\r\n")
                commands = sum(part.startswith(b"*") for part in parts)
                if b"ECHO" in parts:
                    self.reads.append(commands)
                    await self.gate.wait()
                if self.hangs_up_at is not None and self.hangs_up_at in parts:
                    return
                writer.write(b"".join(self._answers(parts)))
        except ConnectionError:
            return
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def _answers(self, parts: list[bytes]) -> list[bytes]:
        answers = []
        for at, part in enumerate(parts):
            if part == b"ECHO":
                word = parts[at + 2]
                answers.append(b"$%d\r\n%s\r\n" % (len(word), word))
            elif part in {b"CLIENT", b"SELECT"}:
                answers.append(b"+OK\r\n")
        return answers


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    double = Server()
    listening = await asyncio.start_server(double.serve, "127.0.0.1", 0)
    double.port = listening.sockets[0].getsockname()[1]
    yield double
    double.gate.set()
    listening.close()
    await asyncio.sleep(0.01)  # those it still serves see the end of their connection


@pytest.fixture
async def redis(server: Server) -> AsyncIterator[Redis]:
    pool = BlockingConnectionPool(
        host="127.0.0.1", port=server.port, retry=Retry(NoBackoff(), 0), lib_name="", lib_version=""
    )
    client = Redis(connection_pool=pool)
    yield client
    await client.aclose()
    await pool.disconnect()


@pytest.fixture
async def line(redis: Redis) -> AsyncIterator[Line]:
    line = Line(redis, timeout=1.0)
    yield line
    await line.close()


async def test_what_is_said_in_one_turn_leaves_in_one_write(line: Line, server: Server) -> None:
    await line.say("ECHO", "first")
    answers = await asyncio.gather(*(line.say("ECHO", at) for at in range(50)))
    assert answers == [str(at).encode() for at in range(50)]
    assert server.reads == [1, 50]
    assert server.connections == 1


async def test_nobody_waits_for_the_answers_to_what_was_said_before(
    line: Line, server: Server
) -> None:
    await line.say("ECHO", "first")
    server.gate.clear()
    early = line.say("ECHO", "early")
    await asyncio.sleep(0.01)
    late = line.say("ECHO", "late")
    await asyncio.sleep(0.01)
    server.gate.set()
    assert [await early, await late] == [b"early", b"late"]


async def test_a_caller_who_gives_up_takes_nobody_along(line: Line, server: Server) -> None:
    server.gate.clear()
    hasty, patient = line.say("ECHO", "hasty"), line.say("ECHO", "patient")
    await asyncio.sleep(0.01)
    hasty.cancel()
    server.gate.set()
    assert await patient == b"patient"
    assert await line.say("ECHO", "next") == b"next"


async def test_an_answer_that_does_not_come_ends_the_wait_and_the_next_one_is_fresh(
    line: Line, server: Server
) -> None:
    server.gate.clear()
    begun = asyncio.get_running_loop().time()
    answers = await asyncio.gather(
        *(line.say("ECHO", at) for at in range(3)), return_exceptions=True
    )
    took = asyncio.get_running_loop().time() - begun
    assert all(isinstance(answer, RedisTimeoutError) for answer in answers)
    assert 0.9 <= took <= 10
    server.gate.set()
    assert await line.say("ECHO", "again") == b"again"
    assert server.connections == 2


async def test_a_lost_connection_is_told_to_all_who_were_on_it(line: Line, server: Server) -> None:
    server.hangs_up_at = b"bye"
    answers = await asyncio.gather(
        line.say("ECHO", "before"), line.say("ECHO", "bye"), return_exceptions=True
    )
    assert all(isinstance(answer, RedisConnectionError) for answer in answers)
    server.hangs_up_at = None
    assert await line.say("ECHO", "again") == b"again"


async def test_a_server_that_is_not_there_is_told_at_once_and_found_when_it_is() -> None:
    double, port = Server(), free_port("127.0.0.1")
    pool = BlockingConnectionPool(host="127.0.0.1", port=port, lib_name="", lib_version="")
    commands = Commands(Redis(connection_pool=pool), timeout=0.3)
    answers = await asyncio.gather(
        *(commands.execute("ECHO", at) for at in range(3)), return_exceptions=True
    )
    assert all(isinstance(answer, Unavailable) for answer in answers)
    listening = await asyncio.start_server(double.serve, "127.0.0.1", port)
    assert await commands.execute("ECHO", "back") == b"back"
    await commands.close()
    listening.close()
    await asyncio.sleep(0.01)


async def test_a_server_that_froze_does_not_keep_who_signs_in_anew() -> None:
    async with frozen_after(1) as port:
        pool = BlockingConnectionPool(
            host="127.0.0.1",
            port=port,
            password="secret",
            socket_timeout=0.2,
            retry=Retry(NoBackoff(), 0),
        )
        line = Line(Redis(connection_pool=pool), timeout=0.2)
        begun = asyncio.get_running_loop().time()
        for _ in range(3):
            with pytest.raises(RedisTimeoutError):
                await line.say("ECHO", "anybody")
        assert asyncio.get_running_loop().time() - begun <= 10
        await line.close()
        await pool.disconnect()


async def test_a_server_that_takes_nothing_more_does_not_hold_up_who_comes_later() -> None:
    async with frozen_after(1) as port:
        pool = BlockingConnectionPool(
            host="127.0.0.1", port=port, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)
        )
        line = Line(Redis(connection_pool=pool), timeout=0.2)
        begun = asyncio.get_running_loop().time()
        for command in (b"x" * (32 << 20), b"later", b"last"):
            with pytest.raises((RedisTimeoutError, RedisConnectionError)):
                await line.say("ECHO", command)
        assert asyncio.get_running_loop().time() - begun <= 10
        await line.close()
        await pool.disconnect()


@asynccontextmanager
async def frozen_after(connections: int) -> AsyncIterator[int]:
    """Serve a Redis that lets so many sign in and freezes before it has read a command."""
    taken: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(writer)
        if len(taken) > connections:
            return
        for _ in range(10):
            if b"ECHO" in (data := await reader.read(4096)):
                return
            writer.write(b"+OK\r\n" * data.count(b"*"))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in taken:
        writer.transport.abort()


async def test_commands_said_while_connecting_are_all_answered(line: Line) -> None:
    early = [line.say("ECHO", at) for at in range(5)]
    await asyncio.sleep(0)
    late = [line.say("ECHO", at) for at in range(5, 10)]
    assert await asyncio.gather(*early, *late) == [str(at).encode() for at in range(10)]


async def test_hanging_up_waits_for_what_is_under_way(redis: Redis, server: Server) -> None:
    line = Line(redis, timeout=1)
    server.gate.clear()
    answer = line.say("ECHO", "last")
    closing = asyncio.create_task(line.close())
    await asyncio.sleep(0.01)
    server.gate.set()
    await closing
    assert await answer == b"last"
