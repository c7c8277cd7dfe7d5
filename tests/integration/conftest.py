"""What integration tests stand on: one real Redis for the session, emptied for each test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from storage.redis_client import Commands, connect
from storage.settings import RedisSettings
from tests.redisserver import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis of all tests that do not harm it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of this test alone, to be killed, frozen and filled."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def commands(redis_server: RedisServer) -> AsyncIterator[Commands]:
    commands = Commands(connect(RedisSettings(url=redis_server.url)))
    await commands.execute("FLUSHALL")
    yield commands
    await commands.close()
