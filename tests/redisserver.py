"""A real redis-server on loopback that can be killed, frozen and started again on what it left."""

import os
import signal
import subprocess
import time
from pathlib import Path

import redis

from deploy import embedded, probe


_START_SECONDS = 30.0


class RedisServer:
    """A Redis configured as the product's own: every write is on the disk before it is answered."""

    def __init__(self, folder: Path) -> None:
        self._kept = embedded.embed(folder, port=probe.free_port("127.0.0.1"))
        self._log = folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self._kept.url

    def start(self) -> None:
        """Start, and return when the server has read its file and answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._kept.command, stdout=log, stderr=log)
        client = redis.Redis.from_url(self.url, socket_timeout=1)
        deadline = time.monotonic() + _START_SECONDS
        try:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    if time.monotonic() > deadline or self._process.poll() is not None:
                        raise AssertionError(self._log.read_text()[-2000:]) from None
                    time.sleep(0.02)
                else:
                    return
        finally:
            client.close()

    def kill(self) -> None:
        """End the server as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the server if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Let the server keep its connections and say nothing more."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._send(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._send(number)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)
