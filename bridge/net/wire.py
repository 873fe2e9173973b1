"""How SIP messages lie in the bytes of a connection: as they are, one behind the other (§18.3).

What a connection asks of whatever frames its messages; over WebSocket `websocket` has another answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from bridge.sip.framing import BrokenStream, Framing
from bridge.sip.parser import KeepAlive

Ending: TypeAlias = Literal[
    "closed",  # by the peer
    "reset",  # by the peer, or the network found it gone
    "unreachable",  # it could not be made
    "refused",  # there are too many
    "idle",
    "slow_message",  # a message did not get complete
    "slow_reader",  # too much waited to be sent
    "broken",  # what came could not be cut into messages
    "no_pong",
    "untrusted",  # who is there has not proven to be whom we meant, or TLS has failed otherwise
    "not_upgraded",  # who came did not become a WebSocket
    "violated",  # what came over a WebSocket was none of its frames
    "shutdown",
]

_PING: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Parting:
    """The last thing that comes of a connection: say this, and close it."""

    answer: bytes
    ending: Ending


Taken: TypeAlias = bytes | KeepAlive | BrokenStream | Parting


class Wire(Protocol):
    """Both halves of one connection. Does no I/O."""

    # Whether we ask those who have connected for a sign of life too, and not only whom we have connected to.
    asks_peers: bool
    turn: int  # how often `take` may be asked at a time, before other connections have their turn

    @property
    def is_ready(self) -> bool:
        """Whether messages may be sent."""
        ...

    @property
    def is_incomplete(self) -> bool:
        """Whether bytes wait for others. Meaningful when `take` has returned None."""
        ...

    @property
    def is_within(self) -> bool:
        """Whether a message has begun of which parts have been taken already."""
        ...

    def feed(self, data: bytes) -> None:
        """What has come."""
        ...

    def take(self) -> Taken | None:
        """The next that is whole; None: feed more."""
        ...

    def message(self, data: bytes) -> bytes:
        """One message, as it is sent."""
        ...

    def ping(self) -> bytes: ...
    def parting(self, ending: Ending) -> bytes:
        """The last word before it is closed for that reason."""
        ...


class BareWire(Framing):
    """Of TCP and TLS: messages by their Content-Length, CRLF keep-alives between them (RFC 5626 §4.4.1)."""

    __slots__ = ()

    asks_peers = False
    turn = 512  # CRLFs: about 2 ms
    is_ready = True
    is_within = False

    def message(self, data: bytes) -> bytes:
        return data

    def ping(self) -> bytes:
        return _PING

    def parting(self, ending: Ending) -> bytes:
        return b""
