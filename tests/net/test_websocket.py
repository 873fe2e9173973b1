"""SIP over WebSocket on real sockets: who may connect, what is a message, what a connection may cost. The peers are aiohttp's."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from structlog.testing import capture_logs

from bridge.engine.inputs import FlowLost, Packet, StreamBroken
from bridge.net.certificates import Certificates, TlsFiles
from bridge.net.connection import StreamLimits
from bridge.net.websocket import Origins, WebSocketListener, WebSocketWire
from bridge.net.wire import Parting
from bridge.sip.flow import Flow, Send
from bridge.sip.parser import KeepAlive
from tests.support.certificates import Authority
from tests.support.waiting import until

OPTIONS = "OPTIONS sip:a@b SIP/2.0\r\nCall-ID: ü\r\n\r\n"
ANSWER = b"SIP/2.0 200 OK\r\n\r\n"
PAGE = "https://app.example.com"
SIP = ("sip",)

Given = Packet | StreamBroken | FlowLost


class Place:
    """A listener, what it has said, and the clients of aiohttp."""

    def __init__(self, listener: WebSocketListener, session: ClientSession, inbox: asyncio.Queue[Given]) -> None:
        self.listener = listener
        self.session = session
        self.inbox = inbox
        self.dropped: list[str] = []

    async def peer(self, *, protocols: tuple[str, ...] = SIP, **options: Any) -> ClientWebSocketResponse:
        host, port = self.listener.address
        scheme = self.listener.transport
        return await self.session.ws_connect(f"{scheme}://{host}:{port}/any", protocols=protocols, **options)

    async def packet(self) -> Packet:
        given = await self.inbox.get()
        assert isinstance(given, Packet), given
        return given

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(*self.listener.address)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


Make = Callable[..., Any]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def made(*, name: str = "ws:127.0.0.1:0", limits: dict[str, Any] | None = None, **more: Any) -> Place:
            inbox: asyncio.Queue[Given] = asyncio.Queue()
            session = await stack.enter_async_context(ClientSession())
            listener = WebSocketListener(
                name,
                "127.0.0.1",
                0,
                inbox.put_nowait,
                dropped=lambda reason, flow: place.dropped.append(reason),
                limits=StreamLimits(**(limits or {})),
                **more,
            )
            place = Place(listener, session, inbox)
            await listener.open()
            stack.push_async_callback(listener.close)
            return place

        yield made


# What comes and what goes


async def test_each_message_is_one_packet_and_is_answered_by_the_same_connection(make: Make) -> None:
    place = await make()
    peer = await place.peer()
    assert peer.protocol == "sip"
    await peer.send_str(OPTIONS)
    await peer.send_bytes(OPTIONS.encode())
    came = [await place.packet() for _ in range(2)]
    assert [each.data for each in came] == [OPTIONS.encode()] * 2
    flow = came[0].flow
    assert (flow, flow.reliable, flow.secure) == (came[1].flow, True, False)
    assert flow.transport == "ws"
    for data in (ANSWER, b"\xff" + ANSWER):  # what is no text may not be sent as such
        place.listener.send(Send(flow, data))
    assert [await peer.receive_str(), await peer.receive_bytes()] == [ANSWER.decode(), b"\xff" + ANSWER]
    assert (place.listener.counts.received, place.listener.counts.sent) == (2, 2)


async def test_wss_shows_the_certificate_and_a_new_one_to_who_comes_later(make: Make, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.pair(addresses=["127.0.0.1"], file="own")
    certificates = Certificates(TlsFiles((pair,)))
    place = await make(name="wss:127.0.0.1:0", certificates=certificates)
    context = ssl.create_default_context(cafile=str(authority.path))
    first = await place.peer(ssl=context)
    shown = first.get_extra_info("peercert")["serialNumber"]
    await first.send_str(OPTIONS)
    assert (await place.packet()).flow.secure
    authority.pair(addresses=["127.0.0.1"], file="own")  # over the files of the one before
    certificates.reload()
    second = await place.peer(ssl=context)
    assert second.get_extra_info("peercert")["serialNumber"] != shown
    await first.send_str(OPTIONS)  # what was there before stays
    assert (await place.packet()).data == OPTIONS.encode()


async def test_a_send_to_who_is_not_connected_is_lost_at_once(make: Make) -> None:
    place = await make()
    flow = Flow("ws", place.listener.name, "127.0.0.1", 9)
    place.listener.send(Send(flow, ANSWER))
    assert place.inbox.get_nowait() == FlowLost(flow)
    assert place.dropped == ["connection_unreachable"]
    assert place.listener.connections == 0


async def test_who_says_goodbye_is_told_and_its_flow_is_lost(make: Make) -> None:
    place = await make()
    peer = await place.peer()
    await peer.send_str(OPTIONS)
    flow = (await place.packet()).flow
    await peer.close(code=4000)
    assert peer.close_code == 4000
    assert await place.inbox.get() == FlowLost(flow)
    assert place.listener.counts.ended["closed"] == 1


async def test_a_stop_says_that_we_are_going_away(make: Make) -> None:
    place = await make()
    peer = await place.peer()
    closing = asyncio.create_task(place.listener.close())
    await peer.send_str(OPTIONS)  # which crosses our last word
    told = await peer.receive()
    assert (told.type, told.data, peer.close_code) == (WSMsgType.CLOSE, 1001, 1001)
    await closing


async def test_a_keep_alive_of_streams_is_answered_here_too(make: Make) -> None:
    place = await make()
    peer = await place.peer()
    await peer.send_str("\r\n\r\n")
    assert await peer.receive_str() == "\r\n"
    await peer.send_str("\r\n")
    await peer.send_str(OPTIONS)
    assert (await place.packet()).data == OPTIONS.encode()


async def test_who_does_not_answer_our_ping_any_more_is_gone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.net.websocket.PING_S", (0.05, 0.05))
    place = await make(limits={"pong_s": 0.05})
    peer = await place.peer(autoping=False)
    for _ in range(2):
        assert (await peer.receive()).type is WSMsgType.PING
        await peer.pong()
    assert (await peer.receive()).type is WSMsgType.PING
    await until(lambda: place.dropped == ["connection_no_pong"], "that it is counted")


# Who may connect


@pytest.mark.parametrize("origin", [None, PAGE, "https://APP.example.com", "null"])
@pytest.mark.parametrize("listed", [(), (PAGE,), ("*",)])
def test_which_pages_may_connect(listed: tuple[str, ...], origin: str | None) -> None:
    origins = Origins(frozenset(listed), frozenset({"example.com"}))
    expected = origin is None or listed == ("*",) or (bool(listed) and origin.lower() == PAGE)
    assert origins.admits(origin) is expected
    assert origins.admits("https://example.com:8443") is (listed != (PAGE,))


async def test_a_page_from_elsewhere_is_refused_and_told_in_the_log(make: Make) -> None:
    place = await make(origins=[PAGE])
    assert (await place.peer(origin=PAGE)).protocol == "sip"
    with capture_logs() as logs, pytest.raises(WSServerHandshakeError) as refused:
        await place.peer(origin="https://evil.example")
    assert refused.value.status == 403
    await until(lambda: place.dropped == ["websocket_refused"], "that it is counted")
    (line,) = [each for each in logs if each["event"] == "websocket_refused"]
    assert line["origin"] == "https://evil.example"
    assert "sip.websocket.origins" in line["detail"]


@pytest.mark.parametrize("protocols", [(), ("xmpp",)])
async def test_the_subprotocol_is_required(make: Make, protocols: tuple[str, ...]) -> None:
    place = await make()
    with pytest.raises(WSServerHandshakeError) as refused:
        await place.peer(protocols=protocols)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 426 "),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 405 "),
        (b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n", b"HTTP/1.1 400 "),
        (b"\x16\x03\x01\x00\xee\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET / HTTP/1.1\r\nCookie: " + b"x" * 17_000, b"HTTP/1.1 431 "),
        (b"GET / HTTP/1.1\r\nCookie: " + b"x" * 9_000 + b"\r\n\r\n", b"HTTP/1.1 431 "),
    ],
)
async def test_what_is_no_handshake_is_answered_and_closed(make: Make, sent: bytes, answered: bytes) -> None:
    place = await make()
    async with place.raw() as (reader, writer):
        writer.write(sent)
        assert (await reader.read()).startswith(answered)
    assert place.dropped == ["websocket_refused"]


# What it may cost


async def test_one_address_may_have_so_many(make: Make) -> None:
    place = await make(limits={"per_source": 2})
    peers = [await place.peer() for _ in range(2)]
    async with place.raw() as (reader, _):
        assert await reader.read() == b""
    assert place.dropped == ["connections_full_source"]
    assert not any(each.closed for each in peers)


async def test_who_does_not_finish_its_handshake_is_closed(make: Make) -> None:
    place = await make(limits={"message_s": 0.05})
    async with place.raw() as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\n")
        await until(lambda: place.dropped == ["connection_slow_message"], "that it is counted")


async def test_a_peer_that_does_not_read_loses_its_connection(make: Make) -> None:
    place = await make(limits={"unsent_bytes": 10_000})
    peer = await place.peer()
    await peer.send_str(OPTIONS)
    flow = (await place.packet()).flow
    for _ in range(1000):
        place.listener.send(Send(flow, bytes(9_000)))
        if place.dropped:
            break
    assert place.dropped[0] == "connection_slow_reader"


# Frames, without sockets


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    """One frame as a client sends it (RFC 6455 §5.2)."""
    size = len(data)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2) if size < 65536 else b"\x7f" + size.to_bytes(8)
    head = bytes([opcode | (0x80 if fin else 0)])
    if not masked:
        return head + length + data
    key = b"\x37\xfa\x21\x3d"  # that of RFC 6455 §5.7
    return head + bytes([length[0] | 0x80]) + length[1:] + key + bytes(b ^ key[i % 4] for i, b in enumerate(data))


def connected() -> WebSocketWire:
    wire = WebSocketWire(Origins(frozenset(), frozenset()), lambda origin, why: pytest.fail(why))
    key = base64.b64encode(bytes(16)).decode()
    wire.feed(
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: sip\r\n\r\n".encode()
    )
    assert not wire.is_ready
    answer = wire.take()
    assert isinstance(answer, KeepAlive)
    assert answer.answer.startswith(b"HTTP/1.1 101 ")
    assert wire.is_ready
    return wire


def taken(wire: WebSocketWire) -> list[Any]:
    return list(iter(wire.take, None))


def test_a_message_in_several_frames_may_have_pings_between_them() -> None:
    wire = connected()
    wire.feed(frame(1, b"one ", fin=False) + frame(9, b"!"))
    assert taken(wire) == [KeepAlive(b"\x8a\x01!")]
    assert (wire.is_incomplete, wire.is_within) == (True, True)
    wire.feed(frame(0, b"two ", fin=False) + frame(0, b"three") + frame(1, b"four"))
    assert taken(wire) == [b"one two three", b"four"]
    assert (wire.is_incomplete, wire.is_within) == (False, False)


def test_bytes_one_by_one_are_the_same_messages() -> None:
    wire = connected()
    found = []
    for each in frame(1, b"a" * 200) + frame(2, b"b"):
        wire.feed(bytes([each]))
        found += taken(wire)
    assert found == [b"a" * 200, b"b"]
    wire.feed(frame(1, b"c")[:3])
    assert taken(wire) == []
    assert wire.is_incomplete


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(1, b"x", masked=False), 1002),
        (frame(3, b"x"), 1002),
        (frame(0, b"x"), 1002),
        (frame(1, b"\xff"), 1007),
        (frame(1, bytes(65_536)), 1009),
        (frame(1, bytes(40_000), fin=False) + frame(0, bytes(40_000)), 1009),
    ],
)
def test_what_breaks_the_rules_is_told_why_and_closed(sent: bytes, code: int) -> None:
    wire = connected()
    wire.feed(frame(1, b"before") + sent + frame(1, b"after"))
    before, parting, *after = taken(wire)
    assert before == b"before"
    assert isinstance(parting, Parting)
    assert parting.ending == "violated"
    assert parting.answer[0] == 0x88
    assert int.from_bytes(parting.answer[2:4]) == code
    assert b"after" not in after or code == 1007  # which its connection does not take any more
    assert not wire.is_ready


def test_a_goodbye_is_echoed_and_the_last() -> None:
    wire = connected()
    wire.feed(frame(8, b"\x03\xe8") + frame(1, b"after"))
    assert taken(wire) == [Parting(b"\x88\x02\x03\xe8", "closed")]
    assert wire.parting("shutdown") == b""
