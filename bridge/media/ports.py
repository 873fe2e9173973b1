"""RTP ports: pairs of an even port and the odd one above it (RFC 3550 §11), bound beforehand and lent out.

A port that is given back stays bound and is lent to nobody for a while, so that a late packet of the old call never enters
a new one. While a stream is held to one source, a second socket of its RTP port is connected to that (docs/adr/0007).
"""

from __future__ import annotations

import re
import socket
from collections import deque
from collections.abc import Iterable
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

from bridge.rtp.latching import Address

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


class Descriptors:
    """How many more files this process may open for its ports."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


class Pair:
    """Two bound sockets: RTP on an even port, RTCP on the next. And perhaps a third, which hears one source of RTP only."""

    __slots__ = ("_descriptors", "held", "port", "rtcp", "rtp")

    def __init__(self, address: str, port: int, descriptors: Descriptors) -> None:
        """Raises OSError where either port is taken, or no descriptor is left."""
        self._descriptors = descriptors
        self.port = port
        self.held: socket.socket | None = None
        self.rtp = _open(address, RECEIVE_BYTES)
        try:
            self.rtp.bind((address, port))
            self.rtcp = _open(address, REPORT_BYTES)
        except OSError:
            self.rtp.close()
            raise
        try:
            self.rtcp.bind((address, port + 1))
        except OSError:
            self.rtp.close()
            self.rtcp.close()
            raise
        descriptors.left -= 2

    def hold(self, source: Address) -> socket.socket | None:
        """Another socket of the RTP port: the kernel gives it what comes from `source`, and `rtp` all else from now on.

        What has come before it was connected may be anybody's. None: no descriptor is left, or `source` has no route.
        """
        if self._descriptors.left < 1:
            return None
        address = self.rtp.getsockname()
        held = _open(address[0], RECEIVE_BYTES)
        # Only for this moment, and only for us: nobody else can have the port before or after.
        self.rtp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind(address)
            held.connect(source)
        except OSError:
            held.close()
            return None
        finally:
            self.rtp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        self._descriptors.left -= 1
        self.held = held
        return held

    def let_go(self) -> None:
        """Close what `hold` has opened, if it has; unread packets are lost with it."""
        held, self.held = self.held, None
        if held is not None:
            held.close()
            self._descriptors.left += 1

    def drain(self) -> None:
        """Throw away what has come to the ports so far."""
        _drain(self.rtp)
        _drain(self.rtcp)

    def close(self) -> None:
        """Give both ports back to the system."""
        self.let_go()
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
        descriptors = Descriptors(_descriptors())
        for port in ports:
            if descriptors.left < 2:
                self.skipped.append((port, "the limit of open files (RLIMIT_NOFILE) is reached"))
                continue
            try:
                self._pairs.append(Pair(address, port, descriptors))
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


def _open(address: str, receive_bytes: int) -> socket.socket:
    """A socket of the address's family, not bound yet."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, EXPEDITED_FORWARDING)
    else:
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, EXPEDITED_FORWARDING)
    return opened


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
