"""What unit tests stand on: a Redis inside the process, and time that a test moves.

`DARKROOM_TEST_EXAMPLES=2000 pytest --timeout=600` tries each property on that many examples.
"""

import os
from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

from storage.redis_client import Commands
from tests.doubles import Clock, fake_redis
from tests.samples import NOW


# A deadline for one example would only measure what else the machine does.
settings.register_profile(
    "darkroom", max_examples=int(os.environ.get("DARKROOM_TEST_EXAMPLES", "60")), deadline=None
)
settings.load_profile("darkroom")


@pytest.fixture
async def commands() -> AsyncIterator[Commands]:
    commands = Commands(fake_redis())
    yield commands
    await commands.close()


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)
