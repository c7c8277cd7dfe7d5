"""OpenAI's client for Node, unmodified, where there is a Node and a way to install it."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest
import pytest_asyncio

from tests.images import PHOTOGRAPH
from tests.processes import Installation


HERE = Path(__file__).parent / "node"
STEPS = 8

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the client installed, as its lock file says."""
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
        pytest.skip("the client for Node cannot be installed here")
    return folder


async def test_every_door_that_node_knows(darkroom: Installation, modules: Path) -> None:
    node = await asyncio.create_subprocess_exec(
        *("node", HERE / "openai.mjs", darkroom.url, darkroom.key, PHOTOGRAPH, modules),
        env={"PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(node.communicate(), 60)
    said = out.decode()
    assert node.returncode == 0, said[-2000:]
    assert said.count("ok ") == STEPS
