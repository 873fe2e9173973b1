"""Time, chance and secrecy, as arguments.

Nothing below the adapters reads a clock, rolls dice or has a key: what needs the time takes `now`, what needs chance takes a
`Tokens`, what keeps a secret in the store a `Seal`. The system's own versions of the first two stand here too, for the
composition roots; tests and the simulation bring theirs.
"""

from __future__ import annotations

import secrets
import time
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


class Seal(Protocol):
    """Makes of a secret what the store may have of it, and back."""

    def seal(self, secret: str) -> str:
        """ASCII that tells nobody anything who has not our key. Another one each time."""
        ...

    def unseal(self, sealed: str) -> str | None:
        """The secret again; None where it was sealed with another key, or is damaged."""
        ...


_LETTERS = bytes([b"abcdefghijklmnopqrstuvwxyz234567"[byte & 31] for byte in range(256)])


def letters(data: bytes) -> str:
    """Five bits of each byte, as one of `a-z2-7`: what names are made of."""
    return data.translate(_LETTERS).decode("ascii")


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
            self._pool = letters(secrets.token_bytes(max(960, length)))
        cut, self._pool = self._pool[:length], self._pool[length:]
        return cut
