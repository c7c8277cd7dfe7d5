"""OpenAI's client for Node, unmodified, where there is a Node and a way to install it."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.images import PHOTOGRAPH
from tests.processes import Installation


HERE = Path(__file__).parent / "node"
STEPS = 8

pytestmark = pytest.mark.asyncio(loop_scope="session")


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
