"""Time and chance, as arguments.

Nothing below the adapters reads a clock or rolls dice: what needs the time takes `now`, what needs chance takes a
`Tokens`. The system's own versions stand here too, for the composition roots; tests and the simulation bring theirs.
"""

from __future__ import annotations

import secrets
import time
from base64 import b32encode
from typing import Protocol


class Clock(Protocol):
    """Where the adapters take `now` from."""

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC. Never goes back, and never jumps."""
        ...


class Tokens(Protocol):
    """Where unguessable names come from."""

    def token(self, length: int) -> str:
        """`length` characters of `a-z2-7`, five random bits each."""
        ...


class SystemClock:
    """UTC read once, carried on by the monotonic clock: a step of the system's time moves no timer."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()  # noqa: TID251 -- the one place that reads it

    def now(self) -> float:
        return self._offset + time.monotonic()


class SystemTokens:
    """The operating system's randomness, drawn in blocks: one call of the kernel serves many names."""

    __slots__ = ("_pool",)

    def __init__(self) -> None:
        self._pool = ""

    def token(self, length: int) -> str:
        if len(self._pool) < length:
            self._pool = b32encode(secrets.token_bytes(max(640, length * 5))).decode("ascii").lower().rstrip("=")
        cut, self._pool = self._pool[:length], self._pool[length:]
        return cut
