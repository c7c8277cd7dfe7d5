"""The description of the API, taken at its word: thousands of requests made from it.

No answer may be a server error, have a status or a type that is not described, or break its schema.
"""

import asyncio
import re
import sys

import pytest

from tests.processes import installed


CASES = 5_000
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
_GENERATED = re.compile(r"(\d+) generated")


@pytest.mark.timeout(400)
async def test_no_request_made_from_the_description_breaks_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("openapi")
    patience = "0.2"  # seconds; nobody works here, so nothing is worth a wait
    async with installed(
        folder,
        workers=0,
        DARKROOM_LIMITS__MAX_WAIT=patience,
        DARKROOM_LIMITS__MAX_STREAM=patience,
    ) as darkroom:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{darkroom.url}/openapi.json"),
            *("-H", f"Authorization: Bearer {darkroom.key}", "-H", "Prefer: respond-async"),
            *("--checks", ",".join(CHECKS), "--phases", "examples,coverage"),
            *("--request-timeout", "20", "--no-color", "--seed", "1"),
            cwd=folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        said = out.decode()
        assert process.returncode == 0, said.partition("WARNINGS")[0][-6000:]
        generated = _GENERATED.search(said)
        assert generated is not None
        assert int(generated[1]) >= CASES
