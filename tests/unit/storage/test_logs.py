"""What a process writes on standard error."""

import subprocess
import sys

import orjson


PROGRAM = """
import structlog
from storage.logs import configure

configure("worker", "info")
log = structlog.get_logger("test")

def call(prompt, key):
    raise LookupError("the upstream said nothing")

log.debug("too_small")
try:
    call("a secret prompt", b"a secret key")
except LookupError:
    log.exception("provider_fault", job="job_1")
"""


def test_a_fault_is_told_with_its_place_and_without_the_values_it_met() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, check=True, timeout=15
    )
    (line,) = done.stderr.splitlines()
    said = orjson.loads(line)
    assert (said["event"], said["level"], said["process"]) == ("provider_fault", "error", "worker")
    assert said["job"] == "job_1"
    assert said["exception"][0]["exc_type"] == "LookupError"
    assert said["exception"][0]["frames"][-1]["name"] == "call"
    assert b"secret" not in line
