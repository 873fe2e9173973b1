"""What a Redis server is to those who speak to it: where it is, what it says of itself, what its errors mean.

Refuses to know what it is told, and to speak to it.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import hiredis

Reply: TypeAlias = object  # what hiredis makes of an answer: int, bytes, None, list, or hiredis.ReplyError

# Codes that speak of this one command or its keys; every other one says "not now".
_FINAL = frozenset({"ERR", "WRONGTYPE", "CROSSSLOT"})
# Redis before 7.0 wraps what a script runs into in a plain ERR; the code that is meant stands inside.
_PASSING = (
    "OOM ",
    "READONLY ",
    "LOADING ",
    "MISCONF ",
    "MASTERDOWN ",
    "NOREPLICAS ",
    "CLUSTERDOWN ",
    "max number of clients",
    "a non local key",  # a script met keys that are on their way to another node of a cluster
)
_UNAUTHORIZED = frozenset({"NOAUTH", "WRONGPASS", "NOPERM", "DENIED"})


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Redis listens, and who we are to it. Prints without the password."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None  # of a Unix socket; then host and port mean nothing
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix://{self.path}?db={self.database}"
        return f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}/{self.database}"


class NotFoundError(OSError):
    """Nobody says where the primary is, at the moment."""


class RefusedError(OSError):
    """Nobody will say, however often they are asked."""


class Discovery(Protocol):
    """Where the primary is. What it is asked of Sentinels or a cluster it answers within a second or two."""

    watch_s: float | None  # how often to ask whether it has moved; None: that need not be asked
    known: Address | None  # where it was found last; None: it is not there any more
    replicas: int  # how many could take its place; 0: it has no failover, as far as is known

    async def find(self) -> Address:
        """Where it is now. Raises OSError where nobody says."""
        ...

    async def has_moved(self, address: Address) -> bool:
        """Whether it is at another place than this by now. Where nobody says, it is not."""
        ...

    def heed(self, error: str) -> None:
        """What a server has said instead of an answer: it may name the right one."""
        ...

    async def facts(self) -> dict[str, str]:
        """What `doctor` looks at, of those who say where it is; empty where nobody has to. Raises OSError."""
        ...

    async def close(self) -> None:
        """Let go of what is held."""
        ...


def passes(error: hiredis.ReplyError) -> bool:
    """True where the same command may succeed later: the server's state is at fault, not the command."""
    text = str(error)
    return text.partition(" ")[0] not in _FINAL or any(word in text for word in _PASSING)


def is_forbidden(error: str) -> bool:
    """Whether a user's rights, or a hosted service, do not allow what was asked."""
    return error.startswith(("NOPERM ", "ERR unknown command"))


def is_unauthorized(error: str) -> bool:
    """Whether it does not know us, or does not let us in."""
    return error.partition(" ")[0] in _UNAUTHORIZED


def facts_of(info: Reply) -> dict[str, str]:
    """What a server says of itself."""
    lines = info.decode("ascii", "replace").splitlines() if isinstance(info, bytes) else []
    return dict([line.split(":", 1) for line in lines if ":" in line])
