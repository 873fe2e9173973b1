"""SIP over connections (§18): one listener that takes those of peers and makes its own, and sends by whichever leads there.

A connection is found by its remote address, whoever made it. `FlowLost` is said once for each that ends and each that cannot
be made. TCP, and TLS over it (§26.3, RFC 5922); `websocket` is built upon this. Counts what passes, and bounds what connections
may cost, before they have said anything too.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import structlog

from bridge.engine.inputs import FlowLost, Packet, StreamBroken
from bridge.errors import LocalProtocolError
from bridge.net.admission import Admission
from bridge.net.binding import bound_socket
from bridge.net.certificates import Certificates
from bridge.net.connection import Connection, StreamCounts, StreamLimits
from bridge.net.identity import NoAgreement, no_agreement, proves, shown, tls_failure
from bridge.net.wire import BareWire, Ending, Wire
from bridge.sip.flow import Flow, Send
from bridge.telemetry.flood import Flood

# Each way, in the kernel, where it would otherwise grow to 4 or 6 MB: 100 messages, or 1,000 a second around the world.
SOCKET_BUFFER: Final = 65_536
BACKLOG: Final = 1024  # connections that wait to be accepted; the kernel may grant less (net.core.somaxconn)
ACCEPTED_AT_ONCE: Final = 64  # in one turn of the event loop; about 5 ms
NO_DESCRIPTOR_REST_S: Final = 1.0  # as asyncio has it

_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER),
    (socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A peer that has vanished is found within 2 minutes where nothing is sent, and within 30 s where something is.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)
_NOTHING_LEFT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_ANYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 -- compared, not bound
# The ends that we have made ourselves, and their reasons in `bridge_dropped_total`. What is broken counts as malformed.
_DROPPED: Final[Mapping[Ending, str]] = {
    "idle": "connection_idle",
    "no_pong": "connection_no_pong",
    "slow_message": "connection_slow_message",
    "slow_reader": "connection_slow_reader",
    "unreachable": "connection_unreachable",
    "untrusted": "connection_untrusted",
    "not_upgraded": "websocket_refused",
    "violated": "websocket_malformed",
}
log = structlog.get_logger("bridge.net")


class _Attempt:
    """A connection that is being made, and what waits for it."""

    __slots__ = ("size", "task", "waiting")

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.size = 0
        self.task: asyncio.Task[None]


class StreamListener:
    """All connections of one TCP listener, or of one of TLS. `give` and `dropped` are called on the loop; they must not block.

    `bind` before `open` where something has to be sent, or known, before the first connection is accepted: until then the
    kernel keeps what comes.
    """

    transports = ("tcp", "tls")  # in the clear, and with certificates

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        give: Callable[[Packet | StreamBroken | FlowLost], None],
        *,
        dropped: Callable[[str, Flow | None], None],
        limits: StreamLimits | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        """`dropped`: a reason of the closed list of `bridge_dropped_total`, and whose it is, where that is known;
        `certificates`: TLS is spoken with these."""
        self.name = name  # as its flows call it: "tcp:0.0.0.0:5060"
        self.address = (host, port)  # once bound: as bound
        self.counts = StreamCounts()
        self.limits = limits or StreamLimits()
        self.transport = self.transports[0 if certificates is None else 1]
        self.ended: asyncio.Future[None] | None = None  # done when it is closed; its exception: by what
        self._host = host
        self._port = port
        self._give = give
        self._dropped = dropped
        self._certificates = certificates
        self._failures = Flood()
        self._socket: socket.socket | None = None
        self._resting: asyncio.TimerHandle | None = None  # no descriptor was left
        self._is_closing = self._is_full = False
        self._arriving: dict[Connection, asyncio.Task[None]] = {}  # accepted, and not open yet
        self._connections: set[Connection] = set()  # all that are open
        self._admission = Admission(self.limits)
        self._by_flow: dict[Flow, Connection] = {}  # those that take sends
        self._attempts: dict[Flow, _Attempt] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def connections(self) -> int:
        """How many there are, those that are being made included."""
        return len(self._connections) + len(self._attempts) + len(self._arriving)

    async def bind(self) -> None:
        """From here on it can send, and peers can connect. StartError names what is in the way and the remedy."""
        self._socket = await self._listening()

    async def open(self) -> None:
        """Begin to accept, and bind first where that has not happened. StartError as `bind`."""
        if self._socket is None:
            self._socket = await self._listening()
        self._listen()

    async def _listening(self) -> socket.socket:
        made = await bound_socket(self.name, self._host, self._port, socket.SOCK_STREAM, _prepare)
        made.listen(BACKLOG)
        self.address = made.getsockname()[:2]
        self.ended = asyncio.get_running_loop().create_future()
        return made

    async def close(self) -> None:
        """Send what is queued, close every connection, and wait for it. Closing what never was open does nothing."""
        self._is_closing = True
        if self._resting is not None:
            self._resting.cancel()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        tasks = [*self._arriving.values(), *(attempt.task for attempt in self._attempts.values())]
        if tasks:
            await asyncio.wait(tasks, timeout=self.limits.close_s)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for connection in list(self._connections):
            connection.end("shutdown")
        await self._empty.wait()
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)

    def send(self, send: Send) -> None:
        """One message to the flow's peer: by the connection that leads there, or by a new one."""
        flow, data = send
        connection = self._by_flow.get(flow)
        if connection is not None:
            connection.write(data)
            return
        if self._socket is None or self._is_closing:
            raise LocalProtocolError(f"{self.name} is not open")
        attempt = self._attempts.get(flow)
        if attempt is None:
            if self.connections >= self.limits.connections:
                self.counts.not_sent += 1
                self._dropped("connections_full", flow)
                self._give(FlowLost(flow))
                return
            attempt = self._attempts[flow] = _Attempt()
            attempt.task = asyncio.get_running_loop().create_task(self._connect(flow), name=f"connect {flow}")
            attempt.task.add_done_callback(partial(self._attempted, flow))
        attempt.size += len(data)
        if attempt.size > self.limits.unsent_bytes:
            self.counts.not_sent += 1
            self._give_up(flow, attempt, "slow_reader")
        else:
            attempt.waiting.append(data)

    def is_connected(self, flow: Flow) -> bool:
        """Whether a connection leads there."""
        return flow in self._by_flow

    def new_wire(self, flow: Flow) -> Wire:
        """How messages lie in the bytes of a new connection."""
        return BareWire()

    # Connections of peers

    def _listen(self) -> None:
        self._resting = None
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._accept, self._socket)

    def _accept(self, listening: socket.socket) -> None:
        """Take who waits. uvloop would take one in each turn of its loop, and a loop with much to do has few turns."""
        for _ in range(ACCEPTED_AT_ONCE):
            if len(self._arriving) >= self.limits.handshakes:  # the kernel keeps who comes
                asyncio.get_running_loop().remove_reader(listening)
                self._is_full = True
                return
            try:
                made, address = listening.accept()
            except OSError as error:
                if error.errno in _NOTHING_LEFT:
                    self._rest(listening)
                return  # nobody is left, or who was first has gone
            flow = Flow(self.transport, self.name, address[0], address[1])
            if self._admits(flow):
                made.settimeout(0.0)
                connection = Connection(self, flow, self.new_wire(flow), dialed=False)
                task = asyncio.get_running_loop().create_task(self._adopt(connection, made), name=f"accept {flow}")
                self._arriving[connection] = task
                task.add_done_callback(self._watch)
            else:
                made.close()

    def _rest(self, listening: socket.socket) -> None:
        """Those who wait will wait a little longer: asking again at once would help nobody."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        self._resting = loop.call_later(NO_DESCRIPTOR_REST_S, self._listen)
        self._dropped("descriptors_full", None)

    def _admits(self, flow: Flow) -> bool:
        reason = self._admission.refusal(flow, self.connections)
        if reason:
            self.counts.ended["refused"] += 1
            self._dropped(reason, flow)
            return False
        self._admission.begun(flow)
        return True

    async def _adopt(self, connection: Connection, made: socket.socket) -> None:
        flow = connection.flow
        try:
            if self._certificates is None:
                await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, made)
            else:
                await self._adopt_secured(connection, made, self._certificates.loaded.server)
        finally:
            self._admission.settled(flow)
            if self._arriving.pop(connection, None) is not None:  # it was not opened, and never will be
                made.close()
                self._admission.gone(flow)
            if self._is_full:
                self._is_full = False
                self._listen()

    async def _adopt_secured(self, connection: Connection, made: socket.socket, context: ssl.SSLContext) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                made,
                ssl=context,
                ssl_handshake_timeout=self.limits.handshake_s,
                ssl_shutdown_timeout=2 * self.limits.close_s,  # `Connection` does not wait so long
            )
        except (OSError, ValueError) as error:  # ValueError: a certificate that cannot be read
            self.counts.ended["untrusted"] += 1
            self._dropped("tls_handshake_failed", connection.flow)
            # Who hangs up without a word only wanted to see whether somebody is there: load balancers do, all the time.
            if not isinstance(error, ConnectionResetError):
                self._tell_failure(connection.flow, str(no_agreement(error)))

    def _watch(self, task: asyncio.Task[None]) -> None:
        """What goes wrong on a network is told otherwise. What else does is a fault of ours that nobody would hear of."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, OSError) and self.ended is not None and not self.ended.done():
            self.ended.set_exception(error)

    def _tell_failure(self, flow: Flow, detail: str, **facts: object) -> None:
        withheld = self._failures.admit(asyncio.get_running_loop().time())
        if withheld:
            facts["withheld_before"] = withheld
        if withheld is not None:
            log.warning("tls_failed", flow=str(flow), detail=detail, **facts)

    # Connections of ours

    async def _connect(self, flow: Flow) -> None:
        loop = asyncio.get_running_loop()
        if not 0 < flow.port < 65_536:  # a URI may say anything
            raise OSError(errno.EADDRNOTAVAIL, f"no port of a peer: {flow.port}")
        made = socket.socket(socket.AF_INET6 if ":" in flow.host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.settimeout(0.0)
            _prepare(made)
            if self._host not in _ANYWHERE:
                made.bind((self.address[0], 0))
            async with asyncio.timeout(self.limits.connect_s):
                await loop.sock_connect(made, (flow.host, flow.port))
        except BaseException:
            made.close()
            raise
        if self._certificates is None:
            await loop.create_connection(lambda: Connection(self, flow, self.new_wire(flow), dialed=True), sock=made)
        else:
            await self._secure(flow, made, self._certificates.loaded.client)

    async def _secure(self, flow: Flow, made: socket.socket, context: ssl.SSLContext) -> None:
        """The handshake. Nothing is sent before we know who is there (`opened`)."""
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: Connection(self, flow, self.new_wire(flow), dialed=True),
                sock=made,
                ssl=context,
                server_hostname=flow.name,  # an address, or none at all, is not asked for by name
                ssl_handshake_timeout=self.limits.handshake_s,
                ssl_shutdown_timeout=2 * self.limits.close_s,
            )
        except OSError as error:
            raise no_agreement(error) from error
        except ValueError as error:  # a Via may name a host that has no place in a handshake
            made.close()
            raise NoAgreement("TLS Failed: no name of a host") from error

    def _attempted(self, flow: Flow, task: asyncio.Task[None]) -> None:
        """The attempt is over. Its sends have left with `opened`, or never will."""
        attempt = self._attempts.get(flow)
        if attempt is not None and attempt.task is task:
            why = "" if task.cancelled() else tls_failure(task.exception())
            self._give_up(flow, attempt, "untrusted" if why else "unreachable", why)
        self._watch(task)

    def _give_up(self, flow: Flow, attempt: _Attempt, ending: Ending, why: str = "") -> None:
        del self._attempts[flow]
        attempt.task.cancel()
        self.counts.not_sent += len(attempt.waiting)
        if why:
            self._tell_failure(flow, why, wanted=flow.name or flow.host)
        self._lost(flow, ending, why)

    def _mistrusts(self, connection: Connection) -> str:
        """What is wrong with whom we have reached; empty: it is who we meant (RFC 5922 §7.3)."""
        if self._certificates is None or not self._certificates.verifies_servers:
            return ""
        name = connection.flow.name or connection.flow.host  # without a name: where a connection was that is gone
        certificate = connection.peer_certificate() or {}
        return "" if proves(certificate, name) else f"Certificate Not Valid For {name}, But For {shown(certificate)}"

    # What connections tell

    def give(self, given: Packet | StreamBroken | FlowLost) -> None:
        self._give(given)

    def opened(self, connection: Connection) -> bool:
        flow = connection.flow
        self._connections.add(connection)
        self._empty.clear()
        if not connection.dialed:
            del self._arriving[connection]
            self.counts.accepted += 1
            self._by_flow[flow] = connection
            return True
        attempt = self._attempts.get(flow)
        if attempt is None:  # given up in the last moment
            return False
        why = self._mistrusts(connection)
        if why:
            self._give_up(flow, attempt, "untrusted", why)
            return False
        del self._attempts[flow]
        self.counts.made += 1
        self._by_flow[flow] = connection
        for data in attempt.waiting:
            connection.write(data)
        return True

    def released(self, connection: Connection, ending: Ending, why: str) -> None:
        flow = connection.flow
        if self._by_flow.get(flow) is connection:  # else it never was there, or another one from the same place is
            del self._by_flow[flow]
            self._lost(flow, ending, why)
        else:
            self.counts.ended[ending] += 1

    def closed(self, connection: Connection) -> None:
        self._connections.remove(connection)
        if not connection.dialed:
            self._admission.gone(connection.flow)
        if not self._connections:
            self._empty.set()

    def _lost(self, flow: Flow, ending: Ending, why: str = "") -> None:
        self.counts.ended[ending] += 1
        if self._is_closing:
            return
        if ending in _DROPPED:
            self._dropped(_DROPPED[ending], flow)
        self._give(FlowLost(flow, why))


def _prepare(made: socket.socket) -> None:
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for level, option, value in _OPTIONS:  # what a listening socket has, those that it accepts have too
        made.setsockopt(level, option, value)
