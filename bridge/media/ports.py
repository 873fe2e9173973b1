"""RTP ports: pairs of an even port and the odd one above it (RFC 3550 §11), bound beforehand and lent out.

A port that is given back stays bound and is lent to nobody for a while, so that a late packet of the old call never enters
a new one.
"""

from __future__ import annotations

import re
import socket
from collections import deque
from collections.abc import Iterable
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

RECEIVE_BYTES = 64 * 1024  # about two seconds of one G.711 stream; also all that a flooded closed port can hold
REPORT_BYTES = 8 * 1024  # a few reports, of which each end sends one in five seconds
SPARE_DESCRIPTORS = 128  # what a worker opens besides its ports: a few, and two for each other worker of the node
EXPEDITED_FORWARDING = 46 << 2  # DSCP EF as the TOS byte has it (RFC 3246)


def parse_ports(text: str) -> tuple[int, ...]:
    """The RTP ports of a list like "20000-20499,30000-30999": every even port whose odd neighbour is listed too.

    Raises ValueError, with a sentence for the operator, where the list is none.
    """
    ports: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", part.strip())
        first, last = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= first <= last <= 65535:
            raise ValueError(f"{part.strip()!r} is no range of ports: write it like 20000-20999")
        ports.update(range(first + first % 2, last, 2))
    if not ports:
        raise ValueError(f"{text!r} holds no pair of an even port and the odd one above it")
    return tuple(sorted(ports))


class Pair:
    """Two bound sockets: RTP on an even port, RTCP on the next."""

    __slots__ = ("port", "rtcp", "rtp")

    def __init__(self, address: str, port: int) -> None:
        """Raises OSError where either port is taken, or no descriptor is left."""
        self.port = port
        self.rtp = _bound(address, port, RECEIVE_BYTES)
        try:
            self.rtcp = _bound(address, port + 1, REPORT_BYTES)
        except OSError:
            self.rtp.close()
            raise

    def drain(self) -> None:
        """Throw away what has come to the ports so far."""
        _drain(self.rtp)
        _drain(self.rtcp)

    def close(self) -> None:
        """Give both ports back to the system."""
        self.rtp.close()
        self.rtcp.close()


class PortPool:
    """The pairs of one worker: free, lent, or cooling down."""

    __slots__ = ("_cooldown_s", "_cooling", "_free", "_pairs", "skipped")

    def __init__(self, address: str, ports: Iterable[int], *, cooldown_s: float) -> None:
        """Bind what can be bound. `skipped` tells what could not, and why."""
        self._cooldown_s = cooldown_s
        self._cooling: deque[tuple[float, Pair]] = deque()
        self._pairs: list[Pair] = []
        self.skipped: list[tuple[int, str]] = []
        room = _descriptors() // 2
        for port in ports:
            if len(self._pairs) >= room:
                self.skipped.append((port, "the limit of open files (RLIMIT_NOFILE) is reached"))
                continue
            try:
                self._pairs.append(Pair(address, port))
            except OSError as error:
                self.skipped.append((port, error.strerror or str(error)))
        self._free: deque[Pair] = deque(self._pairs)

    def __len__(self) -> int:
        """How many pairs are bound, lent ones included."""
        return len(self._pairs)

    def free(self, *, now: float) -> int:
        """How many could be lent now."""
        self._warm(now)
        return len(self._free)

    def lend(self, *, now: float) -> Pair | None:
        """The pair that has rested longest; None when all are lent or cooling down. Drain it before it is used."""
        self._warm(now)
        return self._free.popleft() if self._free else None

    def lend_again(self, port: int, *, now: float) -> Pair | None:
        """The pair with this RTP port, for the very call that had it: it need not have rested. None: not free, or not ours."""
        self._warm(now)
        for pair in self._free:
            if pair.port == port:
                self._free.remove(pair)
                return pair
        for resting in self._cooling:
            if resting[1].port == port:
                self._cooling.remove(resting)
                return resting[1]
        return None

    def take_back_unused(self, pair: Pair) -> None:
        """Take back a pair that nobody has heard of: it need not rest."""
        self._free.appendleft(pair)

    def give_back(self, pair: Pair, *, now: float) -> None:
        """Take a lent pair back; it rests from now."""
        self._cooling.append((now + self._cooldown_s, pair))

    def close(self) -> None:
        """Give all ports back to the system."""
        for pair in self._pairs:
            pair.close()

    def _warm(self, now: float) -> None:
        cooling = self._cooling
        while cooling and cooling[0][0] <= now:
            self._free.append(cooling.popleft()[1])


def _bound(address: str, port: int, receive_bytes: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, EXPEDITED_FORWARDING)
        else:
            bound.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, EXPEDITED_FORWARDING)
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound


def _drain(bound: socket.socket) -> None:
    try:
        for _ in range(256):  # more than the buffer holds; a flood in progress shall not hold us here
            bound.recv(1)
    except BlockingIOError:
        return
    except OSError:
        return  # an error the kernel kept for this socket: it is read now, and concerned nobody


def _descriptors() -> int:
    """How many files this process may still open, once it has taken all that the system grants it."""
    _, hard = getrlimit(RLIMIT_NOFILE)
    setrlimit(RLIMIT_NOFILE, (hard, hard))
    return max(0, hard - SPARE_DESCRIPTORS) if hard >= 0 else 1 << 20
