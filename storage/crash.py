"""Crash points: places where a trial can make a process kill itself, to prove that nothing is lost.

In production the point is empty and a visit costs one comparison. A point is named after the line
of the walk that comes next; `name:K` dies at the K-th visit of this process.
"""

import os
import signal


class CrashPoint:
    """The one place, if any, at which this process is to die by SIGKILL."""

    def __init__(self, spec: str = "") -> None:
        self._name, _, count = spec.partition(":")
        self._left = int(count or 1)

    def visit(self, name: str) -> None:
        """Die here if this is the place and the time has come."""
        if name != self._name:
            return
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
