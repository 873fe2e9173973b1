"""SIP over TLS on real sockets: who is let in, who is believed, what a handshake may cost, and certificates that change."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.engine.inputs import FlowLost, Packet, StreamBroken
from bridge.net.certificates import Certificates, Pair, TlsFiles, load
from bridge.net.connection import StreamLimits
from bridge.net.stream import StreamListener
from bridge.sip.flow import Flow, Send
from tests.support.certificates import Authority
from tests.support.waiting import until

OPTIONS = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 4\r\n\r\nbody"
NAME = "tls:127.0.0.1:0"
DOMAIN = "sip.example.com"

Given = Packet | StreamBroken | FlowLost


class Place:
    """A listener, what it has said, and whom its peers may believe."""

    def __init__(
        self, listener: StreamListener, inbox: asyncio.Queue[Given], dropped: list[str], certificates: Certificates
    ) -> None:
        self.listener = listener
        self.inbox = inbox
        self.dropped = dropped
        self.certificates = certificates
        self.counts = listener.counts

    async def packet(self) -> Packet:
        given = await self.inbox.get()
        assert isinstance(given, Packet), given
        return given

    async def lost(self) -> FlowLost:
        given = await self.inbox.get()
        assert isinstance(given, FlowLost), given
        return given

    def flow_to(self, other: Place, name: str = DOMAIN) -> Flow:
        return Flow("tls", NAME, *other.listener.address, name=name)

    def send(self, flow: Flow, data: bytes = OPTIONS) -> None:
        self.listener.send(Send(flow, data))


class Peer:
    """A client over `ssl` and asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        host, port = writer.get_extra_info("sockname")[:2]
        self.flow = Flow("tls", NAME, host, port)

    @property
    def serial(self) -> str:
        """Of the certificate that it was shown."""
        return str(self.writer.get_extra_info("peercert")["serialNumber"])

    @classmethod
    async def dial(cls, place: Place, context: ssl.SSLContext, name: str = DOMAIN) -> Peer:
        host, port = place.listener.address
        return cls(*await asyncio.open_connection(host, port, ssl=context, server_hostname=name))


def trusting(authority: Authority, own: Pair | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.path)
    context.check_hostname = False
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


Make = Callable[..., Any]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def make(authority: Authority) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def made(*pairs: Pair, limits: dict[str, Any] | None = None, **files: Any) -> Place:
            inbox: asyncio.Queue[Given] = asyncio.Queue()
            dropped: list[str] = []
            own = pairs or (authority.pair(dns=[DOMAIN]),)
            certificates = Certificates(TlsFiles(own, **{"ca": authority.path, **files}))
            listener = StreamListener(
                NAME,
                "127.0.0.1",
                0,
                inbox.put_nowait,
                dropped=lambda reason, flow: dropped.append(reason),
                limits=StreamLimits(**(limits or {})),
                certificates=certificates,
            )
            await listener.open()
            stack.push_async_callback(listener.close)
            return Place(listener, inbox, dropped, certificates)

        yield made


# What comes and what goes


async def test_messages_come_with_the_flow_they_came_by_and_are_answered(make: Make, authority: Authority) -> None:
    place = await make()
    peer = await Peer.dial(place, trusting(authority))
    peer.writer.write(OPTIONS[:10])
    peer.writer.write(OPTIONS[10:] * 2 + OPTIONS[:10])
    assert await place.packet() == Packet(OPTIONS, peer.flow)
    assert peer.flow.secure
    assert peer.flow.reliable
    place.send(peer.flow, b"SIP/2.0 200 OK")
    assert await peer.reader.read(100) == b"SIP/2.0 200 OK"
    assert (place.counts.accepted, place.counts.made) == (1, 0)


async def test_a_send_makes_a_connection_to_whom_it_names_and_later_ones_use_it(make: Make) -> None:
    here, there = await make(), await make()
    flow = here.flow_to(there)
    for _ in range(3):
        here.send(flow)
    came = [await there.packet() for _ in range(3)]
    assert {each.data for each in came} == {OPTIONS}
    assert len({each.flow for each in came}) == 1
    there.send(came[0].flow, OPTIONS)
    assert await here.packet() == Packet(OPTIONS, flow)  # by the flow that says to whom we speak
    here.send(flow)
    await there.packet()
    assert (here.counts.made, there.counts.accepted, here.listener.connections) == (1, 1, 1)


async def test_one_address_that_two_domains_share_gets_a_connection_for_each(make: Make, authority: Authority) -> None:
    """RFC 5923 §5: what was proven for one of them says nothing of the other."""
    here = await make()
    there = await make(authority.pair(dns=["a.example", "b.example"]))
    for name in ("a.example", "b.example", "a.example"):
        here.send(here.flow_to(there, name))
        await there.packet()
    assert here.counts.made == 2


async def test_who_has_come_by_itself_is_not_taken_for_whom_we_want_to_reach(make: Make, authority: Authority) -> None:
    """RFC 5923 §5: from this very address and port, but it has proven nothing."""
    place = await make()
    peer = await Peer.dial(place, trusting(authority))
    await until(lambda: place.counts.accepted, "it is accepted")
    place.send(peer.flow._replace(name=peer.flow.host))
    assert (await place.lost()).flow.name
    place.send(peer.flow)
    assert await peer.reader.read(100) == OPTIONS


async def test_a_big_message_and_many_of_them_pass(make: Make) -> None:
    here, there = await make(), await make()
    body = bytes(60_000)
    big = OPTIONS.replace(b"Content-Length: 4", b"Content-Length: %d" % len(body)).replace(b"body", body)
    for number in range(40):
        here.send(here.flow_to(there), big if number % 10 == 0 and number < 30 else OPTIONS)
    sizes = [len((await there.packet()).data) for _ in range(40)]
    assert sorted(set(sizes)) == [len(OPTIONS), len(big)]


async def test_a_close_sends_what_is_queued_and_says_goodbye(make: Make, authority: Authority) -> None:
    place = await make()
    peer = await Peer.dial(place, trusting(authority))
    await until(lambda: place.counts.accepted, "it is accepted")
    place.send(peer.flow, OPTIONS)
    reading = asyncio.create_task(peer.reader.read())
    await place.listener.close()
    assert await reading == OPTIONS  # to the end, and the end was said: `read` would raise otherwise
    assert place.counts.ended == {"shutdown": 1}


async def test_what_cannot_be_cut_is_answered_and_closed(make: Make, authority: Authority) -> None:
    place = await make()
    answer = b"SIP/2.0 400 Missing Content-Length"

    def give(given: Given) -> None:
        if isinstance(given, StreamBroken):
            place.send(given.flow, answer)

    place.listener._give = give
    peer = await Peer.dial(place, trusting(authority))
    peer.writer.write(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n" + bytes(50_000))
    assert await peer.reader.read() == answer
    assert place.counts.ended == {"broken": 1}


async def test_a_peer_that_reads_nothing_loses_its_connection(make: Make, authority: Authority) -> None:
    place = await make(limits={"unsent_bytes": 100_000})
    peer = await Peer.dial(place, trusting(authority))
    await until(lambda: place.counts.accepted, "it is accepted")
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    while place.inbox.empty():
        place.send(peer.flow, bytes(50_000))
        await asyncio.sleep(0)
    assert (await place.lost()).flow == peer.flow
    assert place.dropped == ["connection_slow_reader"]


async def test_a_peer_that_hangs_up_is_told_once(make: Make, authority: Authority) -> None:
    place = await make()
    peer = await Peer.dial(place, trusting(authority))
    await until(lambda: place.counts.accepted, "it is accepted")
    peer.writer.close()
    assert (await place.lost()).flow == peer.flow
    await until(lambda: place.listener.connections == 0, "it is gone")


# Whom we believe


async def failed(here: Place, flow: Flow, there: Place | None = None) -> str:
    """Why nothing was sent there."""
    here.send(flow)
    lost = await here.lost()
    assert lost.flow == flow
    assert here.counts.made == 0
    await until(lambda: here.listener.connections == 0, "nothing is left of it")
    if there is not None:
        await until(lambda: there.listener.connections == 0, "the far end has no connection either")
        assert there.inbox.empty() or isinstance(there.inbox.get_nowait(), FlowLost)
        assert there.counts.received == 0  # not one byte of SIP was said to it
    return lost.why


async def test_an_authority_that_we_do_not_know(make: Make, tmp_path: Path) -> None:
    here = await make()
    other = Authority(tmp_path / "other", "Another authority")
    there = await make(other.pair(dns=[DOMAIN]))
    why = await failed(here, here.flow_to(there), there)
    assert why.startswith("Certificate Not Trusted: unable to get local issuer certificate")
    assert here.dropped == ["connection_untrusted"]


async def test_a_certificate_that_has_expired(make: Make, authority: Authority) -> None:
    here = await make()
    there = await make(authority.pair(dns=[DOMAIN], expires_in=timedelta(hours=-1)))
    assert await failed(here, here.flow_to(there), there) == "Certificate Not Trusted: certificate has expired"


@pytest.mark.parametrize("name", ["other.example.com", "example.com", "127.0.0.1", ""])
async def test_a_certificate_of_somebody_else(make: Make, name: str) -> None:
    """An empty name: the far end has to prove that it has its address."""
    here, there = await make(), await make()
    why = await failed(here, here.flow_to(there, name), there)
    assert why == f"Certificate Not Valid For {name or '127.0.0.1'}, But For sip.example.com"
    assert here.dropped == ["connection_untrusted"]


async def test_no_wildcards(make: Make, authority: Authority) -> None:
    here, there = await make(), await make(authority.pair(dns=["*.example.com"]))
    why = await failed(here, here.flow_to(there), there)
    assert why == "Certificate Not Valid For sip.example.com, But For *.example.com"


@pytest.mark.parametrize(
    ("name", "stands_for"),
    [
        ("example.com", {"uris": ["sip:example.com"]}),
        ("", {"addresses": ["127.0.0.1"]}),
        ("cn.example", {"common_name": "cn.example"}),
    ],
)
async def test_whom_else_we_believe(make: Make, authority: Authority, name: str, stands_for: dict[str, Any]) -> None:
    here, there = await make(), await make(authority.pair(**stands_for))
    here.send(here.flow_to(there, name))
    assert (await there.packet()).data == OPTIONS


async def test_where_nobody_has_to_be_believed(make: Make, tmp_path: Path) -> None:
    here = await make(verify_server=False)
    there = await make(Authority(tmp_path / "other").pair(dns=["other.example"]))
    here.send(here.flow_to(there))
    assert (await there.packet()).data == OPTIONS


async def test_a_far_end_that_speaks_no_tls(make: Make) -> None:
    here = await make()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SIP/2.0 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        flow = Flow("tls", NAME, *server.sockets[0].getsockname(), name=DOMAIN)
        assert await failed(here, flow) == "TLS Failed: wrong version number"


async def test_a_far_end_that_says_nothing(make: Make) -> None:
    here = await make(limits={"handshake_s": 0.1})
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert (
            await failed(here, Flow("tls", NAME, *server.getsockname(), name=DOMAIN))
            == "TLS Failed: no handshake in time"
        )


async def test_nobody_there_is_no_matter_of_tls(make: Make) -> None:
    here = await make()
    with socket.create_server(("127.0.0.1", 0)) as server:
        flow = Flow("tls", NAME, *server.getsockname(), name=DOMAIN)
    assert await failed(here, flow) == ""
    assert here.dropped == ["connection_unreachable"]


@pytest.mark.parametrize("name", ["a..example", ".example", "a" * 80 + ".example", "ä\udc80", "*.example"])
async def test_a_name_that_is_none_fails_alone(make: Make, name: str) -> None:
    """A Via may say anything."""
    here, there = await make(), await make()
    await failed(here, here.flow_to(there, name))
    assert here.listener.ended is not None
    assert not here.listener.ended.done()


# Whom we let in


async def test_a_client_has_to_show_a_certificate_where_that_is_required(
    make: Make, authority: Authority, tmp_path: Path
) -> None:
    place = await make(verify_client="required")
    stranger = Authority(tmp_path / "other", "Another authority")
    for own in (None, stranger.pair(), authority.pair(expires_in=timedelta(hours=-1))):
        with suppress(OSError):  # TLS 1.3 tells a client only when it reads
            peer = await Peer.dial(place, trusting(authority, own))
            peer.writer.write(OPTIONS)
            assert await peer.reader.read() == b""
    await until(lambda: place.dropped.count("tls_handshake_failed") == 3, lambda: f"all are refused: {place.dropped}")
    assert place.counts.received == 0
    known = await Peer.dial(place, trusting(authority, authority.pair()))
    known.writer.write(OPTIONS)
    assert (await place.packet()).data == OPTIONS


async def test_a_client_may_have_none_where_it_is_optional_but_no_wrong_one(
    make: Make, authority: Authority, tmp_path: Path
) -> None:
    place = await make(verify_client="optional")
    peers = [await Peer.dial(place, trusting(authority, own)) for own in (None, authority.pair())]
    for peer in peers:
        peer.writer.write(OPTIONS)
        assert (await place.packet()).flow == peer.flow
    with suppress(OSError):
        peer = await Peer.dial(place, trusting(authority, Authority(tmp_path / "other").pair()))
        await peer.reader.read()
    await until(lambda: place.dropped == ["tls_handshake_failed"], "it is refused")


async def test_we_show_ours_where_we_are_asked(make: Make) -> None:
    here, there = await make(), await make(verify_client="required")
    here.send(here.flow_to(there))
    assert (await there.packet()).data == OPTIONS


async def test_a_refusal_that_comes_after_the_handshake_says_why(
    make: Make, authority: Authority, tmp_path: Path
) -> None:
    """TLS 1.3: a client is done before the server has seen its certificate."""
    here = await make(Authority(tmp_path / "other", "Another authority").pair())
    here.certificates.loaded.client.load_verify_locations(authority.path)
    context = load(TlsFiles((authority.pair(dns=[DOMAIN]),), authority.path, verify_client="required")).server

    def refuse(server: socket.socket) -> None:
        """As OpenSSL does it by itself; the event loops close without a word."""
        with suppress(OSError):
            context.wrap_socket(server.accept()[0], server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as server:
        refusing = asyncio.get_running_loop().run_in_executor(None, refuse, server)
        here.send(Flow("tls", NAME, *server.getsockname(), name=DOMAIN))
        lost = await here.lost()
        await refusing
    assert lost.why == "TLS Failed: tlsv1 alert unknown ca"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions_from_1_2_on(make: Make, authority: Authority, version: ssl.TLSVersion) -> None:
    place = await make()
    context = trusting(authority)
    context.minimum_version = context.maximum_version = version
    peer = await Peer.dial(place, context)
    peer.writer.write(OPTIONS)
    await place.packet()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_none_before_1_2(make: Make, authority: Authority) -> None:
    place = await make()
    context = trusting(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await Peer.dial(place, context)
    await until(lambda: place.dropped == ["tls_handshake_failed"], "it is refused")


# Several certificates


async def test_each_name_gets_its_certificate(make: Make, authority: Authority) -> None:
    pairs = [
        authority.pair(dns=["a.example"]),
        authority.pair(dns=["b.example", "*.c.example"]),
        authority.pair(dns=["a.example"]),
    ]
    place = await make(*pairs)
    context = trusting(authority)
    first, second, _ = [f"{each.serial_number:X}" for each in place.certificates.loaded.leaves]
    asked = {
        name: (await Peer.dial(place, context, name)).serial.lstrip("0")
        for name in ("a.example", "B.example", "x.c.example", "d.example")
    }
    assert asked == {"a.example": first, "B.example": second, "x.c.example": second, "d.example": first}


# What a handshake may cost


async def test_who_says_nothing_is_let_go_in_time(make: Make) -> None:
    place = await make(limits={"handshake_s": 0.1})
    silent = [socket.create_connection(place.listener.address) for _ in range(5)]
    slow = socket.create_connection(place.listener.address)
    slow.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a hello
    await until(lambda: place.dropped.count("tls_handshake_failed") == 6, lambda: f"they are let go: {place.dropped}")
    await until(lambda: place.listener.connections == 0, "nothing is left of them")
    assert place.inbox.empty()
    for each in (*silent, slow):
        each.close()


async def test_noise_is_no_hello(make: Make) -> None:
    place = await make()
    with socket.create_connection(place.listener.address) as noisy:
        noisy.sendall(OPTIONS)
        await until(lambda: place.dropped == ["tls_handshake_failed"], "it is let go")
    assert place.counts.received == 0


async def test_one_source_may_not_begin_without_end(make: Make, authority: Authority) -> None:
    place = await make(limits={"handshakes_per_source": 3, "handshake_s": 30.0})
    silent = [socket.create_connection(place.listener.address) for _ in range(5)]
    await until(lambda: place.dropped == ["handshakes_full_source"] * 2, lambda: f"two too many: {place.dropped}")
    assert place.listener.connections == 3
    for each in silent:
        each.close()
    await until(lambda: place.listener.connections == 0, "they are gone")
    peers = []
    for _ in range(5):  # those that come to an end do not count
        peers.append(await Peer.dial(place, trusting(authority)))
        peers[-1].writer.write(OPTIONS)
        await place.packet()
    assert place.listener.connections == 5


async def test_who_comes_while_many_have_begun_waits_its_turn(make: Make, authority: Authority) -> None:
    """So that a thousand phones that come back at once get through one after the other, in place of all in vain."""
    place = await make(limits={"handshakes": 2, "handshake_s": 30.0})
    silent = [socket.create_connection(place.listener.address) for _ in range(2)]
    await until(lambda: place.listener.connections == 2, "both have begun")
    waiting = [asyncio.create_task(Peer.dial(place, trusting(authority))) for _ in range(3)]
    await until(lambda: place.listener._is_full, "the others wait")
    assert (place.listener.connections, place.dropped) == (2, [])
    silent[0].close()
    peers = [await each for each in waiting]
    for peer in peers:
        peer.writer.write(OPTIONS)
        await place.packet()
    silent[1].close()


async def test_who_only_looks_whether_somebody_is_there_fills_no_log(make: Make) -> None:
    place = await make()
    with capture_logs() as said:
        for _ in range(3):
            socket.create_connection(place.listener.address).close()
        await until(lambda: place.dropped == ["tls_handshake_failed"] * 3, "they are gone")
        assert said == []
        with socket.create_connection(place.listener.address) as noisy:
            noisy.sendall(OPTIONS)
            await until(lambda: said, "this one is told")
    assert said[0]["event"] == "tls_failed"


async def test_a_close_does_not_wait_for_who_has_not_agreed(make: Make) -> None:
    place = await make(limits={"handshake_s": 60.0, "close_s": 0.1})
    with socket.create_connection(place.listener.address), socket.create_server(("127.0.0.1", 0)) as server:
        place.send(Flow("tls", NAME, *server.getsockname(), name=DOMAIN))
        await until(lambda: place.listener.connections == 2, "both are under way")
        await place.listener.close()
    assert place.listener.connections == 0


async def test_nothing_is_left_behind(make: Make, authority: Authority, tmp_path: Path) -> None:
    place, stranger = await make(), await make(Authority(tmp_path / "other").pair())
    plain = trusting(authority)
    (await Peer.dial(place, plain)).writer.close()
    await place.lost()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        place.send(place.flow_to(stranger))
        await place.lost()
        with socket.create_connection(place.listener.address) as noisy:
            noisy.sendall(OPTIONS)
    await until(lambda: place.listener.connections == 0 and stranger.listener.connections == 0, "all are gone")
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before, "and their descriptors")


# Certificates that change


async def test_new_connections_get_the_new_certificate_and_those_that_are_up_stay(
    make: Make, authority: Authority
) -> None:
    place = await make(authority.pair(dns=[DOMAIN], file="live"))
    context = trusting(authority)
    before = await Peer.dial(place, context)
    authority.pair(dns=[DOMAIN], file="live")
    place.certificates.reload()
    after = await Peer.dial(place, context)
    assert before.serial != after.serial
    for peer in (before, after):
        peer.writer.write(OPTIONS)
        assert (await place.packet()).flow == peer.flow
