"""SIP's UDP sockets: datagrams become packets, sends become datagrams, and a bind that fails says what to do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from bridge.engine.inputs import Packet
from bridge.errors import LocalProtocolError, StartError
from bridge.net.addresses import outward_address
from bridge.net.udp import UdpListener
from bridge.sip.flow import Flow, Send


class Phone:
    """A socket on the other side."""

    def __init__(self, family: int = socket.AF_INET) -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.settimeout(0)
        self.socket.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        self.host, self.port = self.socket.getsockname()[:2]

    def send(self, data: bytes, listener: UdpListener) -> None:
        self.socket.sendto(data, listener.address)

    async def receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.socket, 65536)


class Inbox(asyncio.Queue[Packet]):
    """What the listener has given."""


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
async def listener(inbox: Inbox) -> AsyncIterator[UdpListener]:
    listener = UdpListener("udp:127.0.0.1:0", "127.0.0.1", 0, inbox.put_nowait)
    await listener.open()
    yield listener
    await listener.close()


@pytest.fixture
def phone() -> Phone:
    return Phone()


async def test_a_datagram_becomes_a_packet_with_the_flow_it_came_by(
    listener: UdpListener, inbox: Inbox, phone: Phone
) -> None:
    phone.send(b"OPTIONS", listener)
    assert await inbox.get() == Packet(b"OPTIONS", Flow("udp", "udp:127.0.0.1:0", phone.host, phone.port))
    assert (listener.counts.received, listener.counts.bytes_received) == (1, 7)


async def test_nothing_is_too_small_or_too_large_for_it(listener: UdpListener, inbox: Inbox, phone: Phone) -> None:
    for data in (b"", b"x" * 65_507):  # the most that IPv4 takes
        phone.send(data, listener)
        assert (await inbox.get()).data == data


async def test_a_send_goes_to_its_flow(listener: UdpListener, phone: Phone) -> None:
    listener.send(Send(Flow("udp", listener.name, phone.host, phone.port), b"200"))
    assert await phone.receive() == b"200"
    assert (listener.counts.sent, listener.counts.bytes_sent) == (1, 3)


async def test_bound_it_sends_and_what_comes_waits_until_it_is_open(inbox: Inbox, phone: Phone) -> None:
    listener = UdpListener("udp:127.0.0.1:0", "127.0.0.1", 0, inbox.put_nowait)
    await listener.bind()
    phone.send(b"BYE", listener)
    listener.send(Send(Flow("udp", listener.name, phone.host, phone.port), b"200"))
    assert await phone.receive() == b"200"
    assert inbox.empty()
    await listener.open()
    assert (await inbox.get()).data == b"BYE"
    await listener.close()


async def test_bound_and_never_opened_it_gives_its_port_back(inbox: Inbox) -> None:
    listener = UdpListener("udp:127.0.0.1:0", "127.0.0.1", 0, inbox.put_nowait)
    await listener.bind()
    await listener.close()
    with pytest.raises(LocalProtocolError):
        listener.send(Send(Flow("udp", listener.name, "127.0.0.1", 9), b"200"))


async def test_a_phone_that_is_gone_is_counted_and_disturbs_nobody(
    listener: UdpListener, inbox: Inbox, phone: Phone
) -> None:
    gone = Phone()
    gone.socket.close()
    listener.send(Send(Flow("udp", listener.name, gone.host, gone.port), b"200"))
    phone.send(b"INVITE", listener)
    assert (await inbox.get()).data == b"INVITE"


async def test_what_the_socket_cannot_take_is_given_up_and_counted(listener: UdpListener, phone: Phone) -> None:
    send = Send(Flow("udp", listener.name, phone.host, phone.port), b"200")
    listener.pause_writing()
    listener.send(send)
    listener.resume_writing()
    listener.send(send)
    assert (listener.counts.not_sent, listener.counts.sent) == (1, 1)


async def test_port_0_is_any_and_the_real_one_is_told(listener: UdpListener) -> None:
    assert listener.address[0] == "127.0.0.1"
    assert listener.address[1] > 0


async def test_ipv6(inbox: Inbox) -> None:
    listener = UdpListener("udp:[::1]:0", "::1", 0, inbox.put_nowait)
    await listener.open()
    phone = Phone(socket.AF_INET6)
    phone.send(b"OPTIONS", listener)
    packet = await inbox.get()
    assert packet.flow.host == "::1"
    listener.send(Send(packet.flow, b"200"))
    assert await phone.receive() == b"200"
    await listener.close()


async def test_it_is_known_when_it_has_ended(listener: UdpListener) -> None:
    assert listener.ended is not None
    assert not listener.ended.done()
    await listener.close()
    assert listener.ended.done()
    await listener.close()  # again does nothing
    with pytest.raises(LocalProtocolError):
        listener.send(Send(Flow("udp", listener.name, "127.0.0.1", 5060), b""))


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", "cannot listen on udp:127.0.0.1:5060: the port is taken"),
        ("192.0.2.1", "cannot listen on udp:192.0.2.1:5060: no interface of this host has the address 192.0.2.1"),
        ("no.such.host.invalid", "no.such.host.invalid is no address of this host"),
    ],
)
async def test_a_bind_that_fails_names_the_remedy(listener: UdpListener, inbox: Inbox, host: str, said: str) -> None:
    other = UdpListener(f"udp:{host}:5060", host, listener.address[1], inbox.put_nowait)
    with pytest.raises(StartError) as caught:
        await other.open()
    assert said in str(caught.value)
    assert "sip.listen" in str(caught.value)
    await other.close()


def test_a_port_for_root_alone_is_told(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(StartError, match="CAP_NET_BIND_SERVICE"):
        asyncio.run(UdpListener("udp:127.0.0.1:506", "127.0.0.1", 506, inbox.put_nowait).open())


class TestOutwardAddress:
    def test_a_bound_address_is_the_one(self) -> None:
        assert outward_address("192.0.2.10") == "192.0.2.10"

    def test_for_a_wildcard_it_is_one_of_this_host(self) -> None:
        try:
            address = outward_address("0.0.0.0")
        except StartError:
            pytest.skip("this machine has no route to anywhere")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))

    def test_without_a_route_the_remedy_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(101, "Network is unreachable")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        with pytest.raises(StartError, match=r"Network is unreachable.*sip\.advertise"):
            outward_address("::")
