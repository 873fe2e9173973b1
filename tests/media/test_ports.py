"""Ports are bound beforehand, lent, rested, and never handed on with somebody else's packets in them."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator

import pytest

from bridge.media.ports import SPARE_DESCRIPTORS, PortPool, parse_ports

HOST = f"127.94.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"  # one for each process that runs tests


@pytest.fixture
def pool() -> Iterator[PortPool]:
    pool = PortPool(HOST, (21000, 21002), cooldown_s=5.0)
    yield pool
    pool.close()


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("20000-20005", (20000, 20002, 20004)),
        ("20001-20004", (20002,)),  # RTP is even, and needs its odd neighbour
        ("20000-20001, 30000-30003", (20000, 30000, 30002)),
        ("20000-20003,20000-20003", (20000, 20002)),
        ("65534-65535", (65534,)),
    ],
)
def test_a_list_of_ports(text: str, ports: tuple[int, ...]) -> None:
    assert parse_ports(text) == ports


@pytest.mark.parametrize("text", ["", "20000", "20001-20002", "20003-20000", "0-9", "1-65536", "a-b", "1-2-3"])
def test_no_list_of_ports(text: str) -> None:
    with pytest.raises(ValueError, match=r"no range of ports|holds no pair"):
        parse_ports(text)


def test_both_halves_are_bound_before_anybody_asks(pool: PortPool) -> None:
    for port in (21000, 21001, 21002, 21003):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other, pytest.raises(OSError, match="in use"):
            other.bind((HOST, port))


def test_pairs_are_lent_and_rest_after_use(pool: PortPool) -> None:
    assert pool.free(now=0.0) == 2
    first, second = pool.lend(now=0.0), pool.lend(now=0.0)
    assert first is not None
    assert second is not None
    assert (first.port, second.port) == (21000, 21002)
    assert pool.lend(now=0.0) is None
    pool.give_back(first, now=10.0)
    assert pool.lend(now=14.9) is None
    assert pool.free(now=14.9) == 0
    assert pool.lend(now=15.0) is first


def test_a_pair_is_lent_again_to_the_call_that_had_it_rested_or_not(pool: PortPool) -> None:
    first = pool.lend(now=0.0)
    assert first is not None
    assert pool.lend_again(21000, now=0.0) is None  # it is lent
    assert pool.lend_again(20998, now=0.0) is None  # it is not ours
    second = pool.lend_again(21002, now=0.0)
    assert second is not None
    assert pool.free(now=0.0) == 0
    pool.give_back(first, now=0.0)
    assert pool.lend_again(21000, now=0.1) is first
    assert pool.free(now=100.0) == 0


def test_a_late_packet_of_the_last_call_is_gone_when_the_next_one_comes(pool: PortPool) -> None:
    pair = pool.lend(now=0.0)
    assert pair is not None
    pool.give_back(pair, now=0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
        for _ in range(10):
            late.sendto(b"late", (HOST, pair.port))
    other, again = pool.lend(now=9.0), pool.lend(now=9.0)
    assert other is not pair
    assert again is pair
    again.drain()
    with pytest.raises(BlockingIOError):
        pair.rtp.recv(16)


@pytest.mark.parametrize("taken", [21000, 21001])
def test_a_pair_of_which_one_half_is_taken_is_left_out(taken: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, taken))
        pool = PortPool(HOST, (21000, 21002), cooldown_s=0.0)
    assert [port for port, _ in pool.skipped] == [21000]
    assert "in use" in pool.skipped[0][1]
    assert len(pool) == 1
    pool.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind((HOST, 21000))  # its free half was given back at once


def test_what_the_limit_of_open_files_does_not_allow_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.media.ports.getrlimit", lambda _: (SPARE_DESCRIPTORS + 4, SPARE_DESCRIPTORS + 4))
    monkeypatch.setattr("bridge.media.ports.setrlimit", lambda _kind, _limits: None)
    pool = PortPool(HOST, range(21000, 21010, 2), cooldown_s=0.0)
    assert len(pool) == 2
    assert [port for port, _ in pool.skipped] == [21004, 21006, 21008]
    assert "RLIMIT_NOFILE" in pool.skipped[0][1]
    pool.close()


def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    PortPool(HOST, (), cooldown_s=0.0)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ipv6_ports() -> None:
    pool = PortPool("::1", (21000,), cooldown_s=0.0)
    assert len(pool) == 1
    pool.close()


def test_a_held_source_has_a_socket_of_its_own_and_the_port_stays_ours(pool: PortPool) -> None:
    pair = pool.lend(now=0.0)
    assert pair is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far_end:
        far_end.bind(("127.0.0.1", 0))
        held = pair.hold(far_end.getsockname())
        assert held is pair.held is not None
        far_end.sendto(b"ours", (HOST, pair.port))
        assert held.recv(100) == b"ours"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))
            stranger.sendto(b"theirs", (HOST, pair.port))
            assert pair.rtp.recv(100) == b"theirs"
            with pytest.raises(BlockingIOError):
                held.recv(100)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                thief.bind((HOST, pair.port))
        pair.let_go()
        far_end.sendto(b"again", (HOST, pair.port))
        assert pair.rtp.recv(100) == b"again"


def test_a_source_without_a_route_is_not_held(pool: PortPool) -> None:
    pair = pool.lend(now=0.0)
    assert pair is not None
    assert pair.hold(("255.255.255.255", 4000)) is None
    assert pair.held is None


def test_no_more_sources_are_held_than_there_are_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = SPARE_DESCRIPTORS + 5
    monkeypatch.setattr("bridge.media.ports.getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr("bridge.media.ports.setrlimit", lambda _kind, _limits: None)
    pool = PortPool(HOST, (21000, 21002), cooldown_s=0.0)
    first, second = pool.lend(now=0.0), pool.lend(now=0.0)
    assert first is not None
    assert second is not None
    assert first.hold(("127.0.0.1", 4000)) is not None
    assert second.hold(("127.0.0.1", 4000)) is None
    first.let_go()
    first.let_go()  # once is enough
    assert second.hold(("127.0.0.1", 4000)) is not None
    assert first.hold(("127.0.0.1", 4000)) is None
    pool.close()
