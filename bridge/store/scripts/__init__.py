"""The Lua scripts beside this file, and how they are called. What each one promises stands at its head.

A Lua script has no import: shared functions are put before it when it is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import resources
from typing import Final, cast

import hiredis

# Its own stub declares a tuple of exactly one word.
_pack_command = cast("Callable[[tuple[str | bytes | int, ...]], bytes]", hiredis.pack_command)


def pack(*command: str | bytes | int) -> bytes:
    """A command as it travels."""
    return _pack_command(command)


class Script:
    """One script and the name under which a Redis remembers it."""

    __slots__ = ("digest", "text")

    def __init__(self, *names: str) -> None:
        folder = resources.files(__name__)
        self.text = "".join((folder / f"{name}.lua").read_text("utf-8") for name in names)
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def call(self, key: str, *arguments: str | bytes | int) -> bytes:
        """The command that runs it on `key`, for a Redis that knows it."""
        return pack("EVALSHA", self.digest, 1, key, *arguments)


COMMIT: Final = Script("cursor", "commit")
ACKNOWLEDGE: Final = Script("cursor", "acknowledge")
POSTPONE: Final = Script("postpone")
RELEASE: Final = Script("cursor", "release")
PRUNE: Final = Script("prune")
ANNOUNCE: Final = Script("announce")
CLAIM: Final = Script("dead", "claim")
YIELD: Final = Script("yield")
DEPART: Final = Script("depart")
REGISTER: Final = Script("register")
FORGET: Final = Script("cursor", "forget")
INHERIT: Final = Script("dead", "inherit")
RECORD: Final = Script("record")
PLACE: Final = Script("place")

HOT: Final = (
    COMMIT,
    ACKNOWLEDGE,
    POSTPONE,
    RELEASE,
    PRUNE,
    REGISTER,
    FORGET,
)  # those that every connection loads beforehand
