"""Two phones that hear each other through real workers: one or two of them, killed, restarted, older, newer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bridge.calls.facts import CallId
from bridge.engine.effects import HeldPorts, OpenPorts
from bridge.engine.inputs import DtmfHeard, PortsOpened
from bridge.media.neighbours import SUFFIX
from bridge.media.protocol import rule_to_data
from bridge.rtp.rules import Rule
from tests.media.conftest import PATIENCE_S, Node, Phone, Wire, WorkerProcess, until

Start = Callable[..., WorkerProcess]
StartNode = Callable[..., Awaitable[Node]]
Address = tuple[str, int]


@pytest.fixture
def two_workers(start_worker: Start) -> list[WorkerProcess]:
    """Each with a slice of its own, as the supervisor gives it."""
    return [start_worker("--cooldown-s", "0", name="media-0"), start_worker(name="media-1", ports="20008-20015")]


def hears_other(phone: Phone, relay_to: str, **changes: object) -> Rule:
    fields: dict[str, object] = {
        "relay_to": relay_to,
        "payload_map": ((0, 0), (101, 101)),
        "dtmf_payload_types": (101,),
    }
    return phone.rule(**fields | changes)


async def join(node: Node, phone: Phone, other_phone: Phone, **changes: object) -> None:
    node.rule("a", hears_other(phone, "b", **changes))
    node.rule("b", hears_other(other_phone, "a"))


async def open_apart(node: Node) -> tuple[int, int]:
    """Ports of `a` in the first worker, and of `b` in the second: it has more room by then."""
    await ports_in_hand(node)
    ports = await node.open("a"), await node.open("b")
    assert (ports[0] < 20008, ports[1] < 20008) == (True, False)
    return ports


async def ports_in_hand(node: Node) -> None:
    """Until the client knows for certain which worker has how much room."""
    await until(lambda: all(worker.reserved for worker in node.client._workers))


def is_heard(speaker: Phone, to: Address, listener: Phone) -> bool:
    """Whether what is said now comes through; what was said before is thrown away."""
    while not listener.has_heard_nothing():
        listener.listen()
    speaker.speak(to)
    listener.socket.settimeout(0.05)
    try:
        return len(listener.listen()) == 172
    except TimeoutError:
        return False
    finally:
        listener.socket.settimeout(PATIENCE_S)


async def hear_each_other(phone: Phone, at: Address, other_phone: Phone, other_at: Address) -> None:
    await until(lambda: is_heard(phone, at, other_phone))
    await until(lambda: is_heard(other_phone, other_at, phone))


async def test_two_in_one_worker_hear_each_other(
    start_worker: Start, start_node: StartNode, phone: Phone, other_phone: Phone
) -> None:
    worker = start_worker()
    node = await start_node(worker)
    at, other_at = [(worker.host, await node.open(session)) for session in "ab"]
    await join(node, phone, other_phone)
    await hear_each_other(phone, at, other_phone, other_at)
    report = await asyncio.to_thread(_report, phone, at, other_phone)
    other_report = await asyncio.to_thread(_report, other_phone, other_at, phone, heard=phone.ssrc, lost=2)
    assert report != other_report
    phone.press(at, 4)
    assert await node.ear.hears(DtmfHeard) == DtmfHeard("a", "4", 40)
    closed = await node.close("a")
    assert closed.quality is not None
    assert closed.quality.packets_received >= closed.quality.packets_relayed > 2
    closed = await node.close("b")
    assert closed.quality is not None
    assert closed.quality.remote_packets_lost == 2
    assert node.ear.given == []


def _report(phone: Phone, to: Address, listener: Phone, **said: int) -> bytes:
    """A report that comes through as it was sent."""
    sent = phone.report((to[0], to[1] + 1), **said)
    assert listener.control.recv(2048) == sent
    return sent


async def test_two_in_two_workers_hear_each_other(
    two_workers: list[WorkerProcess], start_node: StartNode, phone: Phone, other_phone: Phone
) -> None:
    node = await start_node(*two_workers)
    ports = await open_apart(node)
    at, other_at = [(worker.host, port) for worker, port in zip(two_workers, ports, strict=True)]
    await join(node, phone, other_phone, payload_map=((0, 0), (101, 96)))
    await hear_each_other(phone, at, other_phone, other_at)
    assert other_phone.has_heard_nothing()
    phone.press(at, 4)
    assert await node.ear.hears(DtmfHeard) == DtmfHeard("a", "4", 40)
    assert [(await asyncio.to_thread(other_phone.listen))[1] for _ in range(4)] == [96] * 4
    await asyncio.to_thread(_report, phone, at, other_phone)
    await asyncio.to_thread(_report, other_phone, other_at, phone, heard=phone.ssrc, last=phone.reported_at)
    closed = await node.close("b")
    assert closed.quality is not None
    assert closed.quality.packets_sent >= 5
    assert closed.quality.round_trip_ms is not None  # its worker relayed the report that it has answered
    phone.speak(at)  # to nobody
    closed = await node.close("a")
    assert closed.quality is not None
    assert closed.quality.packets_relayed > 0


async def test_silence_is_for_one_who_hears_nobody(
    start_worker: Start, start_node: StartNode, phone: Phone, other_phone: Phone
) -> None:
    """RFC 6263: while packets come through, the way through a NAT stays open by itself."""
    worker = start_worker("--keepalive-s", "0.2")
    node = await start_node(worker)
    at, _ = [(worker.host, await node.open(session)) for session in "ab"]
    node.rule("b", hears_other(other_phone, "a", silence_payload_type=0))
    first = await asyncio.to_thread(other_phone.listen)
    node.rule("a", hears_other(phone, "b"))
    await until(lambda: is_heard(phone, at, other_phone))
    streams = set()
    for _ in range(30):  # three times the interval
        phone.speak(at)
        streams.add((await asyncio.to_thread(other_phone.listen))[8:12])
        await asyncio.sleep(0.02)
    assert streams == {phone.ssrc.to_bytes(4)}
    again = await asyncio.to_thread(other_phone.listen)  # nobody speaks now
    assert again[8:12] == first[8:12]
    assert int.from_bytes(again[2:4]) == (int.from_bytes(first[2:4]) + 1) & 0xFFFF


async def test_a_closed_session_is_heard_and_hears_no_more(
    start_worker: Start, start_node: StartNode, phone: Phone, other_phone: Phone
) -> None:
    worker = start_worker()
    node = await start_node(worker)
    at, other_at = [(worker.host, await node.open(session)) for session in "ab"]
    await join(node, phone, other_phone)
    await hear_each_other(phone, at, other_phone, other_at)
    await node.close("b")
    received = node.client.totals().received
    phone.speak(at, packets=3)
    other_phone.speak(other_at)
    await until(lambda: node.client.totals().received >= received + 3)
    assert phone.has_heard_nothing()
    assert other_phone.has_heard_nothing()
    await node.close("a")
    assert worker.end() == (0, "")


async def test_a_closed_session_of_another_worker_is_heard_no_more(
    two_workers: list[WorkerProcess], start_node: StartNode, phone: Phone, other_phone: Phone
) -> None:
    node = await start_node(*two_workers)
    ports = await open_apart(node)
    at, other_at = [(worker.host, port) for worker, port in zip(two_workers, ports, strict=True)]
    await join(node, phone, other_phone)
    await hear_each_other(phone, at, other_phone, other_at)
    await node.close("b")
    phone.speak(at, packets=3)
    phone.report((at[0], at[1] + 1))
    await node.close("a")
    assert [worker.end() for worker in two_workers] == [(0, "")] * 2
    assert other_phone.has_heard_nothing()


@pytest.mark.parametrize("killed", [0, 1])
async def test_a_killed_worker_s_calls_hear_each_other_again(
    two_workers: list[WorkerProcess], start_node: StartNode, phone: Phone, other_phone: Phone, killed: int
) -> None:
    """In two workers, whichever of them dies."""
    node = await start_node(*two_workers)
    ports = await open_apart(node)
    at, other_at = [(worker.host, port) for worker, port in zip(two_workers, ports, strict=True)]
    await join(node, phone, other_phone)
    await hear_each_other(phone, at, other_phone, other_at)
    two_workers[killed].kill()
    await until(lambda: not node.client._workers[killed].ready)
    phone.speak(at, packets=3)  # into the void
    other_phone.speak(other_at, packets=3)
    two_workers[killed].restart()
    await hear_each_other(phone, at, other_phone, other_at)
    assert node.ear.given == []


async def test_a_killed_worker_s_own_pair_hears_each_other_again(
    start_worker: Start, start_node: StartNode, phone: Phone, other_phone: Phone
) -> None:
    worker = start_worker()
    node = await start_node(worker)
    at, other_at = [(worker.host, await node.open(session)) for session in "ab"]
    await join(node, phone, other_phone)
    await hear_each_other(phone, at, other_phone, other_at)
    worker.kill()
    worker.restart()
    await hear_each_other(phone, at, other_phone, other_at)
    assert node.ear.given == []


async def test_an_heir_finds_those_who_hear_each_other(
    two_workers: list[WorkerProcess], start_node: StartNode, phone: Phone, other_phone: Phone
) -> None:
    """Signalling was killed, and while it was away so was one worker: nobody knows any more who had which port."""
    first = await start_node(*two_workers)
    ports = await open_apart(first)
    at, other_at = [(worker.host, port) for worker, port in zip(two_workers, ports, strict=True)]
    await join(first, phone, other_phone)
    await hear_each_other(phone, at, other_phone, other_at)
    await first.client.close()
    await hear_each_other(phone, at, other_phone, other_at)  # they go on without it
    two_workers[1].kill()
    two_workers[1].restart()
    heir = await start_node(*two_workers, heir=True)
    held = {"b": HeldPorts(ports[1], hears_other(other_phone, "a")), "a": HeldPorts(ports[0], None)}
    heir.client.reconcile(held)
    await hear_each_other(phone, at, other_phone, other_at)
    assert heir.client._sessions["a"].rule == hears_other(phone, "b")  # as the worker's list had it
    assert heir.ear.given == []


async def test_whole_node_was_killed(
    two_workers: list[WorkerProcess], start_node: StartNode, phone: Phone, other_phone: Phone
) -> None:
    """Each session is asked of one worker after the other, and the one that relays to it is told where it was found."""
    heir = await start_node(*two_workers, heir=True)
    held = {
        "a": HeldPorts(20010, hears_other(phone, "b")),
        "b": HeldPorts(20002, hears_other(other_phone, "a")),
    }
    heir.client.reconcile(held)
    await hear_each_other(phone, (two_workers[1].host, 20010), other_phone, (two_workers[0].host, 20002))
    assert heir.ear.given == []


async def test_a_rule_may_come_before_the_session_that_it_names(
    two_workers: list[WorkerProcess], start_node: StartNode, phone: Phone, other_phone: Phone
) -> None:
    node = await start_node(*two_workers)
    await ports_in_hand(node)
    at = (two_workers[0].host, await node.open("a"))
    node.rule("a", hears_other(phone, "b"))
    assert await node.open("b") >= 20008
    node.rule("b", other_phone.rule())
    await until(lambda: is_heard(phone, at, other_phone))
    node.rule("a", phone.rule())
    await until(lambda: not is_heard(phone, at, other_phone))
    await node.close("a")
    await node.close("b")
    assert node.client._relaying == {}


async def test_sessions_that_will_be_joined_are_put_into_one_worker(
    two_workers: list[WorkerProcess], start_node: StartNode
) -> None:
    node = await start_node(*two_workers)
    near = [await node.open("a")]
    near += [await node.open(session, beside="a") for session in "bcd"]
    slices = [range(20000, 20008), range(20008, 20016)]
    there = next(each for each in slices if near[0] in each)
    assert set(near) <= set(there)
    assert await node.open("e", beside="a") not in there  # it is full
    assert await node.open("f", beside="nobody") not in there


@pytest.mark.usefixtures("nothing_in_hand")
async def test_a_worker_that_turns_out_to_be_full_has_no_room_beside(
    two_workers: list[WorkerProcess], start_node: StartNode
) -> None:
    node = await start_node(*two_workers)
    ports = [await node.open("a")]
    ports += [await node.open(session, beside="a") for session in "bcd"]
    node.client._sessions["a"].worker.free = 9  # as it would be with a word that is a second old
    node.client.open_ports(OpenPorts("e", CallId("call_1"), "a"))
    assert (await node.ear.hears(PortsOpened, "e")).port // 8 != ports[0] // 8


@pytest.fixture
def nothing_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.media.client.RESERVED", 0)


def test_only_our_own_user_may_hand_packets_to_a_worker(start_worker: Start) -> None:
    worker = start_worker()
    Wire(worker.path).hear()
    path = Path(worker.path + SUFFIX)
    assert path.stat().st_mode & 0o777 == 0o600
    assert worker.end()[0] == 0
    assert not path.exists()


def test_nonsense_from_a_neighbour_harms_nothing(start_worker: Start, phone: Phone) -> None:
    worker = start_worker()
    wire = Wire(worker.path)
    wire.say(type="hello", v=1)
    wire.say(type="open", session="a")
    wire.say(type="rule", session="a", rule=rule_to_data(phone.rule()))
    assert (wire.hear() or {})["relay"] == worker.path + SUFFIX
    assert (wire.hear() or {})["type"] == "opened"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as neighbour:
        neighbour.connect(worker.path + SUFFIX)
        for data in (b"\0", b"\0\xffa", b"\0\1b?", b"\7\1a?", b"\0\1\xff?", b"\1\1a?", b"\0\1avoice"):
            neighbour.send(data)
        assert phone.listen() == b"voice"
    wire.say(type="close", session="a")
    assert (wire.hear() or {})["quality"]["packets_sent"] == 1  # type: ignore[index]
    assert worker.end() == (0, "")


async def test_an_older_worker_goes_on_without_relaying(
    tmp_path: Path, start_worker: Start, phone: Phone, other_phone: Phone
) -> None:
    """Minor version 2: it says no `relay`, lists rules without the newer fields, and ignores those that it gets."""
    path, newer = str(tmp_path / "older.sock"), start_worker()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        node = Node(path, newer.path)
        starting = asyncio.create_task(node.client.start())
        older = Older((await asyncio.to_thread(listener.accept))[0])
    with contextlib.closing(older.socket):
        rule = {name: value for name, value in rule_to_data(phone.rule()).items() if name in _MINOR_2}
        older.say(type="hello", v=1, minor=2, worker="x", pid=1, ports=1, skipped=0)
        listed = [{"session": "a", "port": 20000, "rule": rule, "timed_out": False}]
        older.say(type="listed", sessions=listed, free=0, more=False)
        await starting
        node.client.reconcile({"a": HeldPorts(20000, None)})
        assert node.client._sessions["a"].rule == phone.rule()
        other_at = (newer.host, await node.open("b"))
        await join(node, phone, other_phone)
        said = await asyncio.to_thread(older.hears_rule, relay_to="b")
        assert {name: said[name] for name in _MINOR_2} == json.loads(json.dumps(rule))
        other_phone.speak(other_at)  # there is no way to the older one
        await until(lambda: node.client.totals().received == 1)
        closed = await node.close("b")
        assert closed.quality is not None
        assert closed.quality.packets_relayed == 0
        await node.client.close()


class Older:
    """A worker's end of the connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(PATIENCE_S)

    def say(self, **message: object) -> None:
        self.socket.send(json.dumps(message).encode())

    def hears_rule(self, *, relay_to: str) -> dict[str, object]:
        """The next rule that relays to this session."""
        while True:
            message = json.loads(self.socket.recv(65536))
            if message["type"] == "rule" and message["rule"]["relay_to"] == relay_to:
                rule: dict[str, object] = message["rule"]
                return rule


_MINOR_2 = {
    "remote_host", "remote_port", "sources", "latching", "behind_nat", "payload_types", "silence_payload_type",
    "clock_rate", "generation", "expects_media",
}  # fmt: skip


def _said(connection: socket.socket, part: str) -> str:
    """The first message with this in it."""
    while part not in (said := connection.recv(65536).decode()):
        pass
    return said


async def test_an_older_client_is_understood(start_worker: Start, phone: Phone) -> None:
    wire = Wire(start_worker().path)
    wire.say(type="hello", v=1, minor=2)
    wire.say(type="open", session="a")
    known = {
        name: value for name, value in rule_to_data(phone.rule(silence_payload_type=0)).items() if name in _MINOR_2
    }
    wire.say(type="rule", session="a", rule=known)
    assert len(await asyncio.to_thread(phone.listen)) == 172
    wire.say(type="list")
    heard = [wire.hear() for _ in range(3)]
    assert rule_to_data(phone.rule(silence_payload_type=0)) == json.loads(
        json.dumps(heard[2]["sessions"][0]["rule"])  # type: ignore[index]
    ) | {"sources": (phone.host,), "payload_types": (0, 101), "payload_map": (), "dtmf_payload_types": ()}
