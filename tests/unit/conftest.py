"""What unit tests stand on: a Redis inside the process, and time that a test moves."""

from collections.abc import AsyncIterator

import pytest

from storage.redis_client import Commands
from tests.doubles import Clock, fake_redis
from tests.samples import NOW


@pytest.fixture
async def commands() -> AsyncIterator[Commands]:
    commands = Commands(fake_redis())
    yield commands
    await commands.close()


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)
