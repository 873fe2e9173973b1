"""A flow: the way bytes came, which is the way bytes go back (RFC 5626 §2)."""

from __future__ import annotations

from typing import Final, NamedTuple

SECURE: Final = frozenset({"tls", "wss"})
_PORTS: Final = {"tls": 5061, "ws": 80, "wss": 443}  # where it is another than 5060 (§19.1.2, RFC 7118 §5.1)


class Flow(NamedTuple):
    """One remote address seen through one of our listeners."""

    transport: str  # "udp", "tcp", "tls", "ws", "wss"
    listener: str  # the listener's name, as configured: "udp:0.0.0.0:5060"
    host: str  # remote IP address, no brackets
    port: int
    node: str = ""  # who holds it, "node_id:incarnation"; empty: this process
    # Over TLS, of a connection that we make: the domain or the address that the far end has to prove to have (RFC 5922);
    # empty: it has made the connection itself. So one that has proven nothing, or something else, is never taken for one
    # that has, though it comes from the same address and port (RFC 5923 §5).
    name: str = ""

    @property
    def reliable(self) -> bool:
        """True where the transport repeats lost bytes itself, so that §17's retransmissions fall away."""
        return self.transport != "udp"

    @property
    def secure(self) -> bool:
        """True where nobody on the way can read along."""
        return self.transport in SECURE

    def to_data(self) -> list[str | int]:
        """Plain data: `Flow(*data)` is the inverse. Without a name it is what releases before TLS have written."""
        return list(self if self.name else self[:5])

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}:{host}:{self.port}"


class Send(NamedTuple):
    """Bytes for a flow: the one effect every part of SIP ends in."""

    flow: Flow
    data: bytes


def default_port(transport: str) -> int:
    """The port that a URI or a Via means when it names none (§18.2.2, §19.1.2)."""
    return _PORTS.get(transport, 5060)
