"""One installation of real processes for all clients; each test is a client of its own."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.processes import Installation, installed


HERE = Path(__file__).parent / "node"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def darkroom(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    async with installed(tmp_path_factory.mktemp("contract")) as here:
        yield here


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the clients for Node installed, as its lock file says."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no Node here")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(HERE / name, folder)
    install = await asyncio.create_subprocess_exec(
        *(npm, "ci", "--ignore-scripts"),
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    if await asyncio.wait_for(install.wait(), 120) != 0:
        pytest.skip("the clients for Node cannot be installed here")
    return folder
