"""One installation of real processes for all clients; each test is a client of its own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.processes import Installation, installed


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def darkroom(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    async with installed(tmp_path_factory.mktemp("contract")) as here:
        yield here
