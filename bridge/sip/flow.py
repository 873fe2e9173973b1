"""A flow: the way bytes came, which is the way bytes go back (RFC 5626 §2)."""

from __future__ import annotations

from typing import NamedTuple


class Flow(NamedTuple):
    """One remote address seen through one of our listeners."""

    transport: str  # "udp", "tcp", "tls", "ws", "wss"
    listener: str  # the listener's name, as configured: "udp:0.0.0.0:5060"
    host: str  # remote IP address, no brackets
    port: int
    node: str = ""  # who holds it, "node_id:incarnation"; empty: this process

    @property
    def reliable(self) -> bool:
        """True where the transport repeats lost bytes itself, so that §17's retransmissions fall away."""
        return self.transport != "udp"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}:{host}:{self.port}"


class Send(NamedTuple):
    """Bytes for a flow: the one effect every part of SIP ends in."""

    flow: Flow
    data: bytes
