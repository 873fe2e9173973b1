"""The network that tests of addresses stand on does what it says, and leaves nothing behind."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.namespaces import Host, Network


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


def bound(host: Host) -> socket.socket:
    made = host.datagram_socket()
    made.settimeout(5.0)
    return made


def hears(listening: socket.socket) -> bool:
    """Whether anything comes within a moment."""
    listening.settimeout(0.2)
    try:
        listening.recvfrom(100)
    except TimeoutError:
        return False
    finally:
        listening.settimeout(5.0)
    return True


@pytest.mark.parametrize("other_ports", [True, False])
def test_who_is_behind_a_router_is_seen_by_its_address_and_hears_only_whom_it_asked(
    network: Network, *, other_ports: bool
) -> None:
    phone, node = network.behind_nat("phone", other_ports=other_ports), network.host("node")
    with closing(bound(phone)) as inside, closing(bound(node)) as outside, closing(bound(node)) as stranger:
        inside.sendto(b"hello", outside.getsockname())
        _, source = outside.recvfrom(100)
        assert source[0] != phone.address
        assert (source[1] == inside.getsockname()[1]) is not other_ports
        before = phone.datagrams_heard()
        outside.sendto(b"welcome", source)
        assert inside.recvfrom(100)[0] == b"welcome"
        assert phone.datagrams_heard() == before + 1
        stranger.sendto(b"anybody there?", source)
        assert not hears(inside)


def test_hosts_behind_an_edge_have_one_address(network: Network) -> None:
    edge = network.edge("edge")
    first, second = edge.host("first"), edge.host("second")
    with closing(bound(network.here)) as phone, closing(bound(first)) as one, closing(bound(second)) as other:
        port = one.getsockname()[1]
        edge.lead(str(port), first)
        phone.sendto(b"hello", (edge.address, port))
        assert one.recvfrom(100) == (b"hello", phone.getsockname())
        one.sendto(b"welcome", phone.getsockname())
        assert phone.recvfrom(100) == (b"welcome", (edge.address, port))
        other.sendto(b"from us too", phone.getsockname())
        assert phone.recvfrom(100)[1] == (edge.address, other.getsockname()[1])


def test_who_is_cut_off_neither_hears_nor_is_heard_until_it_is_healed(network: Network) -> None:
    first, second = network.host("first"), network.host("second")
    with closing(bound(first)) as one, closing(bound(second)) as other, closing(bound(network.here)) as ours:
        network.cut(first, second.address)
        one.sendto(b"lost", other.getsockname())
        other.sendto(b"lost", one.getsockname())
        assert not hears(other)
        assert not hears(one)
        ours.sendto(b"only these two", one.getsockname())
        assert hears(one)
        network.heal()
        one.sendto(b"heard", other.getsockname())
        assert hears(other)


def test_everything_is_given_back() -> None:
    def named(name: str) -> list[str]:
        links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
        return [line for line in links.splitlines() if name in line] + [
            each.name for each in Path("/run/netns").glob(f"{name}-*")
        ]

    def fail(network: Network) -> None:
        with network:
            network.behind_nat("phone")
            assert named(network._name)
            raise ZeroDivisionError

    network = Network()
    with pytest.raises(ZeroDivisionError):
        fail(network)
    assert not named(network._name)
