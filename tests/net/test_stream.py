"""SIP over TCP on real sockets: framing, reuse both ways, what a connection may cost, and what is told when one is lost."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, Self

import pytest

from bridge.engine.inputs import FlowLost, Packet, StreamBroken
from bridge.errors import LocalProtocolError, StartError
from bridge.net.connection import StreamLimits
from bridge.net.stream import StreamListener
from bridge.sip.flow import Flow, Send
from tests.support.waiting import until

OPTIONS = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 4\r\n\r\nbody"
NAME = "tcp:127.0.0.1:0"
SOON = 0.05  # a limit that a test waits for

Given = Packet | StreamBroken | FlowLost


class Peer:
    """The other end of one connection."""

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        made.setblocking(False)
        self.host, self.port = made.getsockname()[:2]

    @classmethod
    async def dial(cls, listener: StreamListener, host: str = "127.0.0.1", *, buffer: int = 0) -> Self:
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        made.setblocking(False)
        made.bind((host, 0))
        await asyncio.get_running_loop().sock_connect(made, listener.address)
        return cls(made)

    @property
    def flow(self) -> Flow:
        return Flow("tcp", NAME, self.host, self.port)

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def hear(self, size: int = 65_536) -> bytes:
        """Something; empty: the other side has closed."""
        try:
            return await asyncio.get_running_loop().sock_recv(self.socket, size)
        except ConnectionResetError:
            return b""

    async def hear_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += (more := await self.hear(size - len(data)))
            assert more, f"closed after {data!r}"
        return data

    async def is_closed(self) -> bool:
        while await self.hear():
            pass
        return True

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


class Server:
    """A peer that listens."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        host, port = self.socket.getsockname()
        self.flow = Flow("tcp", NAME, host, port)

    async def accept(self) -> Peer:
        made, _ = await asyncio.get_running_loop().sock_accept(self.socket)
        return Peer(made)


class Place:
    """A listener and what it has said."""

    def __init__(self, listener: StreamListener, inbox: asyncio.Queue[Given], dropped: list[str]) -> None:
        self.listener = listener
        self.inbox = inbox
        self.dropped = dropped
        self.counts = listener.counts

    async def packet(self) -> Packet:
        given = await self.inbox.get()
        assert isinstance(given, Packet), given
        return given

    async def lost(self) -> Flow:
        given = await self.inbox.get()
        assert isinstance(given, FlowLost), given
        return given.flow

    def send(self, flow: Flow, data: bytes = OPTIONS) -> None:
        self.listener.send(Send(flow, data))

    async def connected(self, host: str = "127.0.0.1") -> Peer:
        """A peer that has been accepted."""
        accepted = self.counts.accepted
        peer = await Peer.dial(self.listener, host)
        await until(lambda: self.counts.accepted > accepted, "the connection is accepted")
        return peer


Make = Callable[..., Any]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def made(*, host: str = "127.0.0.1", **limits: Any) -> Place:
            inbox: asyncio.Queue[Given] = asyncio.Queue()
            dropped: list[str] = []
            listener = StreamListener(
                NAME,
                host,
                0,
                inbox.put_nowait,
                dropped=lambda reason, flow: dropped.append(reason),
                limits=StreamLimits(**limits),
            )
            await listener.open()
            stack.push_async_callback(listener.close)
            return Place(listener, inbox, dropped)

        yield made


@pytest.fixture
async def place(make: Make) -> Place:
    made = await make()
    assert isinstance(made, Place)
    return made


# What comes and what goes


async def test_messages_come_whole_with_the_flow_they_came_by(place: Place) -> None:
    peer = await Peer.dial(place.listener)
    for piece in (OPTIONS[:10], OPTIONS[10:] + OPTIONS + OPTIONS[:-1], OPTIONS[-1:]):
        await peer.say(piece)
    for _ in range(3):
        assert await place.packet() == Packet(OPTIONS, peer.flow)
    assert (place.counts.accepted, place.counts.received, place.counts.bytes_received) == (1, 3, 3 * len(OPTIONS))


async def test_who_connected_is_answered_on_that_connection(place: Place) -> None:
    peer = await place.connected()
    place.send(peer.flow, b"SIP/2.0 200 OK")
    assert await peer.hear() == b"SIP/2.0 200 OK"
    assert (place.counts.made, place.counts.sent, place.counts.bytes_sent) == (0, 1, 14)


async def test_many_messages_at_once_come_in_order_and_others_have_their_turn(place: Place) -> None:
    flood, other = await place.connected(), await place.connected()
    numbered = [OPTIONS.replace(b"body", b"%04d" % number) for number in range(3000)]
    sending = asyncio.create_task(flood.say(b"".join(numbered)))
    await until(lambda: place.inbox.qsize() > 0, "the flood begins", poll_s=0.0)  # it may be over in a few milliseconds
    await other.say(OPTIONS)
    taken = [await place.packet() for _ in range(3001)]
    assert [each.data for each in taken if each.flow == flood.flow] == numbered
    assert taken.index(Packet(OPTIONS, other.flow)) < 3000
    await sending


async def test_a_ping_gets_its_pong(place: Place) -> None:
    peer = await place.connected()
    await peer.say(b"\r\n\r\n" * 3 + OPTIONS + b"\r\n")
    assert await peer.hear_exactly(6) == b"\r\n" * 3
    assert (await place.packet()).data == OPTIONS


async def test_what_cannot_be_cut_is_told_then_closed_once_the_answer_has_left(place: Place) -> None:
    peer = await place.connected()
    await peer.say(OPTIONS + OPTIONS.replace(b"Content-Length: 4\r\n", b"") + OPTIONS * 1000)
    await place.packet()
    broken = await place.inbox.get()
    assert isinstance(broken, StreamBroken)
    assert (broken.flow, broken.reason, broken.status) == (peer.flow, "Missing Content-Length", 400)
    assert await place.lost() == peer.flow
    assert await peer.is_closed()
    assert place.counts.ended == {"broken": 1}
    assert place.inbox.empty()


async def test_its_answer_arrives(make: Make) -> None:
    """Although more has been sent to us than we have read."""
    place = await make()
    answer = b"SIP/2.0 400 Missing Content-Length"

    def give(given: Given) -> None:
        if isinstance(given, StreamBroken):
            place.send(given.flow, answer)

    place.listener._give = give
    peer = await Peer.dial(place.listener)
    await peer.say(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n" + bytes(300_000))
    assert await peer.hear_exactly(len(answer)) == answer
    assert await peer.is_closed()


# Connections of ours


async def test_a_send_to_nobody_connected_makes_a_connection_and_later_ones_use_it(place: Place) -> None:
    server = Server()
    for _ in range(3):  # the first makes it, the others wait for it
        place.send(server.flow)
    peer = await server.accept()
    assert await peer.hear_exactly(3 * len(OPTIONS)) == 3 * OPTIONS
    assert peer.host == "127.0.0.1"
    place.send(server.flow)
    assert await peer.hear() == OPTIONS
    await peer.say(OPTIONS)
    assert await place.packet() == Packet(OPTIONS, server.flow)
    assert (place.counts.made, place.counts.sent, place.listener.connections) == (1, 4, 1)


async def test_bound_it_sends_and_who_connects_waits_until_it_is_open() -> None:
    inbox: asyncio.Queue[Given] = asyncio.Queue()
    listener = StreamListener(NAME, "127.0.0.1", 0, inbox.put_nowait, dropped=lambda reason, flow: None)
    await listener.bind()
    server, early = Server(), await Peer.dial(listener)
    await early.say(OPTIONS)
    listener.send(Send(server.flow, b"BYE"))
    called = await server.accept()
    assert await called.hear() == b"BYE"
    assert inbox.empty()
    await listener.open()
    assert await inbox.get() == Packet(OPTIONS, early.flow)
    await listener.close()


async def test_nobody_there_is_told_once_for_all_that_waits(place: Place) -> None:
    server = Server()
    server.socket.close()
    for _ in range(5):
        place.send(server.flow)
    assert await place.lost() == server.flow
    assert (place.counts.not_sent, dict(place.counts.ended)) == (5, {"unreachable": 1})
    assert place.dropped == ["connection_unreachable"]
    place.send(server.flow)  # the next one is a new attempt
    assert await place.lost() == server.flow
    assert place.inbox.empty()
    assert place.listener.connections == 0


async def test_who_does_not_answer_is_given_up_in_time(make: Make) -> None:
    place = await make(connect_s=SOON)
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    clients = []
    for _ in range(3):  # the kernel takes one or two; what comes then waits
        client = socket.socket()
        client.setblocking(False)
        assert client.connect_ex(full.getsockname()) in (0, errno.EINPROGRESS)
        clients.append(client)
    flow = Flow("tcp", NAME, *full.getsockname())
    place.send(flow)
    assert await place.lost() == flow
    assert place.counts.ended == {"unreachable": 1}


async def test_what_waits_for_a_connection_is_bounded(make: Make) -> None:
    place = await make(unsent_bytes=1000)
    server = Server()
    for _ in range(3):
        place.send(server.flow, bytes(400))
    assert await place.lost() == server.flow
    assert place.dropped == ["connection_slow_reader"]
    assert place.counts.not_sent == 3
    await until(lambda: not _tasks(), "the attempt is called off")
    assert place.inbox.empty()


def _tasks() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("connect ")]


@pytest.mark.parametrize(("host", "port"), [("::1", 5060), ("127.0.0.1", 0), ("127.0.0.1", 99_999), ("phone", 5060)])
async def test_what_is_no_address_of_a_peer_is_unreachable(place: Place, host: str, port: int) -> None:
    flow = Flow("tcp", NAME, host, port)
    place.send(flow)
    assert await place.lost() == flow
    assert place.listener.ended is not None
    assert not place.listener.ended.done()


# Connections that are lost


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_connection_that_ends_is_told_once(place: Place, how: str) -> None:
    peer = await place.connected()
    await peer.say(OPTIONS[:20])
    getattr(peer, how)()
    assert await place.lost() == peer.flow
    await until(lambda: not place.listener.connections, "it is let go of")
    assert place.inbox.empty()
    assert place.counts.ended == {"closed" if how == "close" else "reset": 1}


async def test_a_peer_that_comes_back_is_another_flow(place: Place) -> None:
    first = await place.connected()
    first.close()
    assert await place.lost() == first.flow
    second = await place.connected()
    place.send(second.flow)
    assert await second.hear() == OPTIONS


async def test_the_end_of_one_of_two_to_the_same_address_loses_only_what_is_sent_by(place: Place) -> None:
    """A peer that connects from the port on which it listens, while we have connected to that."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", 0))
    made.listen()
    made.setblocking(False)
    flow = Flow("tcp", NAME, *made.getsockname())
    place.send(flow)
    accepted, _ = await asyncio.get_running_loop().sock_accept(made)
    ours = Peer(accepted)
    await ours.hear()
    dialled = socket.socket()
    dialled.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    dialled.bind(made.getsockname())
    dialled.setblocking(False)
    await asyncio.get_running_loop().sock_connect(dialled, place.listener.address)
    await until(lambda: place.counts.accepted, "it is accepted")
    place.send(flow, b"newest")
    assert await Peer(dialled).hear() == b"newest"
    ours.close()
    await until(lambda: place.listener.connections == 1, "ours is gone")
    assert place.inbox.empty()
    place.send(flow, b"still")
    assert await Peer(dialled).hear() == b"still"
    dialled.close()
    assert await place.lost() == flow


# What a connection may cost


async def test_a_message_that_does_not_get_complete_costs_the_connection(make: Make) -> None:
    place = await make(message_s=SOON)
    slow, well = await place.connected(), await place.connected()
    await well.say(OPTIONS)
    await place.packet()
    await slow.say(OPTIONS + OPTIONS[:-1])
    await place.packet()
    assert await place.lost() == slow.flow
    assert await slow.is_closed()
    assert place.dropped == ["connection_slow_message"]
    assert place.listener.connections == 1  # who has said something whole may be silent


async def test_one_byte_after_the_other_does_not_help(make: Make) -> None:
    place = await make(message_s=SOON)
    peer = await place.connected()

    async def drip() -> None:
        for number in range(len(OPTIONS) - 1):
            await peer.say(OPTIONS[number : number + 1])
            await asyncio.sleep(SOON / 10)

    dripping = asyncio.create_task(drip())
    assert await place.lost() == peer.flow
    assert not dripping.done()
    dripping.cancel()


async def test_who_connects_and_says_nothing_has_no_longer(make: Make) -> None:
    place = await make(message_s=SOON)
    silent, alive = await place.connected(), await place.connected()
    await alive.say(b"\r\n")
    assert await place.lost() == silent.flow
    assert await silent.is_closed()
    assert place.listener.connections == 1


async def test_a_silent_connection_is_closed_when_it_has_been_idle(make: Make) -> None:
    place = await make(idle_s=SOON, message_s=100.0)
    peer = await place.connected()
    await peer.say(OPTIONS)
    await place.packet()
    assert await place.lost() == peer.flow
    assert await peer.is_closed()
    assert place.counts.ended == {"idle": 1}
    assert place.dropped == ["connection_idle"]


async def test_keep_alives_keep_a_connection_of_the_peers(make: Make) -> None:
    place = await make(idle_s=4 * SOON)
    quiet, alive = await place.connected(), await place.connected()
    for each in (quiet, alive):
        await each.say(OPTIONS)
        await place.packet()

    async def keep() -> None:
        while True:
            await alive.say(b"\r\n\r\n")
            await alive.hear_exactly(2)

    keeping = asyncio.create_task(keep())
    assert await place.lost() == quiet.flow
    assert await quiet.is_closed()
    assert place.listener.connections == 1
    keeping.cancel()


async def test_they_do_not_keep_one_of_ours_that_nobody_uses(make: Make) -> None:
    place = await make(idle_s=4 * SOON, ping_s=(SOON, SOON))
    server = Server()
    place.send(server.flow)
    peer = await server.accept()
    assert await peer.hear() == OPTIONS
    assert await peer.hear() == b"\r\n\r\n"
    await peer.say(b"\r\n")
    assert await place.lost() == server.flow
    assert place.counts.ended == {"idle": 1}


async def test_a_peer_that_has_ponged_once_must_go_on(make: Make) -> None:
    place = await make(ping_s=(SOON, SOON), pong_s=2 * SOON)
    server, mute = Server(), Server()
    place.send(server.flow)
    place.send(mute.flow)
    peer, never = await server.accept(), await mute.accept()
    await peer.hear()
    assert await peer.hear() == b"\r\n\r\n"
    await peer.say(b"\r\n")
    assert await place.lost() == server.flow
    assert place.counts.ended == {"no_pong": 1}
    assert (await never.hear_exactly(len(OPTIONS) + 8))[-8:] == b"\r\n" * 4  # it is pinged on, and may be silent


async def test_a_slow_reader_loses_its_connection(make: Make) -> None:
    place = await make(unsent_bytes=65_536)
    slow, well = await place.connected(), await place.connected()
    for _ in range(10_000):
        place.send(slow.flow, bytes(10_000))
        if not place.inbox.empty():
            break
    assert await place.lost() == slow.flow
    assert place.dropped == ["connection_slow_reader"]
    place.send(well.flow)
    assert await well.hear() == OPTIONS


async def test_pings_without_reading_the_pongs_are_no_way_around(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.net.stream._OPTIONS", [(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)])
    place = await make(unsent_bytes=1_024)
    peer = await Peer.dial(place.listener, buffer=2_048)

    async def flood() -> None:
        while True:
            await peer.say(b"\r\n\r\n" * 50_000)

    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        await flood()
    assert await place.lost() == peer.flow
    assert place.dropped == ["connection_slow_reader"]


async def test_more_connections_than_allowed_are_refused(make: Make) -> None:
    place = await make(connections=3)
    peers = [await place.connected() for _ in range(3)]
    fourth = await Peer.dial(place.listener)
    assert await fourth.is_closed()
    assert place.dropped == ["connections_full"]
    server = Server()
    place.send(server.flow)
    assert await place.lost() == server.flow  # nor do we make one
    peers[0].close()
    assert await place.lost() == peers[0].flow
    await until(lambda: place.listener.connections == 2, "there is room")
    place.send(server.flow)
    assert await (await server.accept()).hear() == OPTIONS


async def test_more_of_one_source_than_allowed_are_refused(make: Make) -> None:
    place = await make(per_source=2)
    peers = [await place.connected() for _ in range(2)]
    assert await (await Peer.dial(place.listener)).is_closed()
    assert place.dropped == ["connections_full_source"]
    other = await place.connected("127.0.0.2")
    place.send(other.flow)
    assert await other.hear() == OPTIONS
    peers[0].close()
    assert await place.lost() == peers[0].flow
    again = await place.connected()
    place.send(again.flow)
    assert await again.hear() == OPTIONS


async def test_without_a_descriptor_who_waits_waits(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.net.stream.NO_DESCRIPTOR_REST_S", SOON)
    taken = []
    gc.collect()  # a socket of an earlier test that goes in the middle leaves its descriptor to be had
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    peer = socket.socket()
    peer.setblocking(False)
    highest = max(int(each) for each in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(socket.socket())
        await asyncio.get_running_loop().sock_connect(peer, place.listener.address)
        await until(lambda: len(place.dropped) > 1, "it has tried twice")
    finally:
        for each in taken:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert set(place.dropped) == {"descriptors_full"}
    await until(lambda: place.counts.accepted, "it is accepted at last")
    place.send(Peer(peer).flow)
    assert await Peer(peer).hear() == OPTIONS


async def test_half_open_connections_are_found_by_the_kernel(place: Place) -> None:
    """The options are there, on both kinds; to wait for them would take minutes."""
    wanted = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    ]
    server = Server()
    place.send(server.flow)
    peers = [await server.accept(), await place.connected()]
    await until(lambda: len(place.listener._by_flow) == 2, "both are there")
    for connection in place.listener._by_flow.values():
        assert connection._transport is not None
        beneath = connection._transport.get_extra_info("socket")
        assert [beneath.getsockopt(*option) for option in wanted] == [1, 60, 15, 4, 30_000, 1]
    for peer in peers:
        peer.close()


# Its own life


async def test_closing_sends_what_is_queued_and_ends_everything(make: Make) -> None:
    place = await make()
    peers = [await place.connected() for _ in range(20)]
    server = Server()
    place.send(server.flow, b"BYE")
    for peer in peers:
        place.send(peer.flow, bytes(100_000))
    closing = asyncio.create_task(place.listener.close())
    assert {len(await peer.hear_exactly(100_000)) for peer in peers} == {100_000}
    assert await (await server.accept()).hear() == b"BYE"
    await closing
    assert place.listener.connections == 0
    assert place.inbox.empty()  # whoever closes it need not be told
    assert not _tasks()
    assert place.listener.ended is not None
    assert place.listener.ended.done()
    with pytest.raises(LocalProtocolError):
        place.send(server.flow)
    await place.listener.close()  # again does nothing
    with pytest.raises(ConnectionRefusedError):
        await Peer.dial(place.listener)


async def test_closing_waits_for_nobody_who_does_not_read_or_answer(make: Make) -> None:
    place = await make(close_s=SOON, unsent_bytes=50_000_000)
    peer = await place.connected()
    place.send(peer.flow, bytes(20_000_000))
    place.send(Flow("tcp", NAME, "127.0.0.1", 1))
    await place.listener.close()
    assert place.listener.connections == 0
    assert not _tasks()


async def test_bound_and_never_opened_it_gives_its_port_back() -> None:
    listener = StreamListener(NAME, "127.0.0.1", 0, lambda given: None, dropped=lambda reason, flow: None)
    await listener.close()  # never bound does nothing
    listener = StreamListener(NAME, "127.0.0.1", 0, lambda given: None, dropped=lambda reason, flow: None)
    await listener.bind()
    await listener.close()
    with pytest.raises(ConnectionRefusedError):
        await Peer.dial(listener)


async def test_a_fault_of_ours_in_an_attempt_ends_the_listener(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("bridge.net.stream._prepare", fail)
    server = Server()
    place.send(server.flow)
    assert place.listener.ended is not None
    with pytest.raises(RuntimeError, match="broken"):
        await asyncio.shield(place.listener.ended)
    assert await place.lost() == server.flow


async def test_ipv6(make: Make) -> None:
    place = await make(host="::1", per_source=1)
    peer = await place.connected("::1")
    await peer.say(OPTIONS)
    assert (await place.packet()).flow.host == "::1"
    place.send(peer.flow, b"200")
    assert await peer.hear() == b"200"
    assert await (await Peer.dial(place.listener, "::1")).is_closed()


async def test_a_port_that_is_taken_is_told(place: Place) -> None:
    other = StreamListener(
        NAME, "127.0.0.1", place.listener.address[1], place.inbox.put_nowait, dropped=lambda reason, flow: None
    )
    with pytest.raises(StartError, match=r"the port is taken \(`ss -ltnp sport = :\d+`.*sip\.listen"):
        await other.open()
    await other.close()
