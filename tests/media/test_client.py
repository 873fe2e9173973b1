"""The client with real workers: everything a call needs of its media, and what happens when somebody is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bridge.calls.facts import CallId
from bridge.engine.effects import ClosePorts, HeldPorts, OpenPorts
from bridge.engine.inputs import MediaLost, MediaTimedOut, NoPortLeft, PortsClosed, PortsOpened
from bridge.errors import LocalProtocolError
from bridge.media.known import MediaTotals, State
from bridge.media.protocol import rule_to_data
from tests.media.conftest import Ear, Node, Phone, Wire, WorkerProcess, until

Start = Callable[..., WorkerProcess]
StartNode = Callable[..., Awaitable[Node]]


async def hears(phone: Phone) -> bytes:
    return await asyncio.to_thread(phone.listen)


@pytest.fixture
def nothing_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each port has to be asked for."""
    monkeypatch.setattr("bridge.media.client.RESERVED", 0)


@pytest.mark.usefixtures("nothing_in_hand")
async def test_a_call_opens_and_closes_its_ports(start_worker: Start, start_node: StartNode, phone: Phone) -> None:
    worker = start_worker("--cooldown-s", "60")
    node = await start_node(worker)
    assert node.client.ports_free() == 4
    node.client.open_ports(OpenPorts("a", CallId("call_1")))
    node.client.open_ports(OpenPorts("a", CallId("call_1")))  # asking twice opens once
    assert node.ear.given == []  # never from within the call
    assert await node.ear.hears(PortsOpened) == PortsOpened("a", "192.0.2.10", 20000)
    assert node.client.ports_free() == 3
    assert await node.open("a") == 20000  # it says so again
    node.rule("a", phone.rule(silence_payload_type=0))
    assert len(await hears(phone)) == 172
    phone.speak((worker.host, 20000), packets=5)
    await until(lambda: node.client.totals() == MediaTotals(received=5, sent=1))
    closed = await node.close("a")
    assert closed.quality is not None
    assert (closed.quality.packets_received, closed.quality.packets_sent) == (5, 1)
    assert closed.quality.bytes_received == 5 * 172
    assert await node.close("a") == PortsClosed("a", None)
    await until(lambda: node.client.ports_free() == 3)  # it rests
    assert node.client.totals() == MediaTotals(received=5, sent=1)


async def test_keep_alive_silence_until_the_ports_are_closed(
    start_worker: Start, start_node: StartNode, phone: Phone
) -> None:
    node = await start_node(start_worker("--keepalive-s", "0.05"))
    await node.open("a")
    node.rule("a", phone.rule(silence_payload_type=0))
    numbers = [int.from_bytes((await hears(phone))[2:4]) for _ in range(4)]
    assert [(number - numbers[0]) & 0xFFFF for number in numbers] == [0, 1, 2, 3]
    closed = await node.close("a")
    assert closed.quality is not None
    for _ in range(closed.quality.packets_sent - 4):
        await hears(phone)
    await asyncio.sleep(0.15)  # three times the interval: nothing else tells of what does not come
    assert phone.has_heard_nothing()


async def test_an_expected_far_end_that_falls_silent(start_worker: Start, start_node: StartNode, phone: Phone) -> None:
    worker = start_worker("--timeout-s", "0.5")
    node = await start_node(worker)
    port = await node.open("heard")
    await node.open("silent")
    await node.open("held")
    node.rule("heard", phone.rule(expects_media=True))
    node.rule("silent", phone.rule(expects_media=True))
    node.rule("held", phone.rule(expects_media=True))
    node.rule("held", phone.rule(expects_media=False, generation=2))

    async def speak() -> None:
        while True:
            phone.speak((worker.host, port))
            await asyncio.sleep(0.05)

    speaking = asyncio.create_task(speak())
    assert await node.ear.hears(MediaTimedOut) == MediaTimedOut("silent")
    assert node.ear.given == []
    speaking.cancel()
    assert await node.ear.hears(MediaTimedOut) == MediaTimedOut("heard")
    node.rule("held", phone.rule(expects_media=True, generation=3))
    assert await node.ear.hears(MediaTimedOut) == MediaTimedOut("held")


async def test_sessions_are_spread_and_run_out(start_worker: Start, start_node: StartNode) -> None:
    workers = [start_worker("--cooldown-s", "0", name=f"media-{number}", ports="20000-20003") for number in (0, 1)]
    node = await start_node(*workers)
    for session in "abcd":
        await node.open(session)
    assert node.client.ports_free() == 0
    node.client.open_ports(OpenPorts("e", CallId("call_1")))
    assert await node.ear.hears(NoPortLeft) == NoPortLeft("e")
    await node.close("a")
    await until(lambda: node.client.ports_free() == 1)
    await node.open("e")


async def test_a_full_worker_hands_on_to_another(start_worker: Start, start_node: StartNode) -> None:
    """What the client believes of free ports may be a second old: the worker has the last word."""
    workers = [start_worker("--cooldown-s", "60", name=f"media-{number}", ports="20000-20003") for number in (0, 1)]
    node = await start_node(*workers)
    node.client._workers[0].free = 50
    for session in "abcd":
        node.client.open_ports(OpenPorts(session, CallId("call_1")))
    for session in "abcd":
        await node.ear.hears(PortsOpened, session)
    node.client.open_ports(OpenPorts("e", CallId("call_1")))
    assert await node.ear.hears(NoPortLeft) == NoPortLeft("e")


async def test_the_last_ports_may_be_those_in_hand(start_worker: Start, start_node: StartNode) -> None:
    """Refused because what is left was being handed to us: then it is here."""
    node = await start_node(start_worker(ports="20000-20015"))
    for session in "abcdefgh":
        node.client.open_ports(OpenPorts(session, CallId("call_1")))
    ports = {(await node.ear.hears(PortsOpened, session)).port for session in "abcdefgh"}
    assert ports == set(range(20000, 20016, 2))


@pytest.mark.usefixtures("nothing_in_hand")
async def test_closing_before_it_was_opened(start_worker: Start, start_node: StartNode) -> None:
    node = await start_node(start_worker())
    node.client.open_ports(OpenPorts("a", CallId("call_1")))
    node.client.close_ports(ClosePorts("a"))
    with pytest.raises(LocalProtocolError):
        node.client.open_ports(OpenPorts("a", CallId("call_1")))
    node.client.close_ports(ClosePorts("a"))  # once is enough
    assert (await node.ear.hears(PortsClosed)).quality is not None
    assert node.ear.given == []


async def test_no_worker_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.media.client.START_PATIENCE_S", 0.05)
    node = Node(str(tmp_path / "nobody.sock"))
    await node.client.start()
    node.client.open_ports(OpenPorts("a", CallId("call_1")))
    assert await node.ear.hears(NoPortLeft) == NoPortLeft("a")
    monkeypatch.setattr("bridge.media.client.REOPEN_PATIENCE_S", 0.05)
    node.client.reconcile({"b": HeldPorts(20000, None)})
    assert await node.ear.hears(MediaLost) == MediaLost(("b",))
    await node.client.close()


@pytest.mark.usefixtures("nothing_in_hand")
async def test_what_a_killed_worker_was_busy_with_is_answered(
    start_worker: Start, start_node: StartNode, phone: Phone
) -> None:
    dying, living = start_worker(name="media-0"), start_worker(name="media-1")
    node = await start_node(dying, living)
    for session in "abcd":
        await node.open(session)
    there = {name for name, session in node.client._sessions.items() if session.worker is node.client._workers[0]}
    assert len(there) == 2
    dying.signal(signal.SIGSTOP)
    node.client.close_ports(ClosePorts(there.copy().pop()))
    node.client._workers[0].free = 50
    node.client.open_ports(OpenPorts("pending", CallId("call_1")))
    dying.kill()
    assert await node.ear.hears(NoPortLeft) == NoPortLeft("pending")
    closed = await node.ear.hears(PortsClosed)
    assert closed.quality is None
    assert closed.session in there
    dying.restart()
    await until(lambda: node.client.ports_free() == 5)  # the other one has its port again
    assert node.ear.given == []


async def test_a_killed_worker_s_sessions_go_on_in_its_successor_on_their_ports(
    start_worker: Start, start_node: StartNode, phone: Phone
) -> None:
    worker = start_worker("--keepalive-s", "0.05")
    node = await start_node(worker)
    ports = {session: await node.open(session) for session in "ab"}
    node.rule("a", phone.rule(silence_payload_type=0))
    await hears(phone)
    worker.kill()
    await until(lambda: node.client._workers[0].link is None)
    node.rule("b", phone.rule(generation=2))  # what is said meanwhile counts too
    while not phone.has_heard_nothing():
        phone.listen()
    worker.restart()
    await hears(phone)  # the stream goes on, under the rule that it had
    for session, port in ports.items():
        await until(lambda session=session: node.client._sessions[session].state is State.OPEN)  # type: ignore[misc]
        assert await node.open(session) == port
        phone.speak((worker.host, port), packets=3)
    await until(lambda: node.client.totals().received == 6)
    for session in ports:
        assert (await node.close(session)).quality is not None
    assert node.ear.given == []


async def test_nothing_is_lent_that_may_be_somebody_s_who_comes_back(
    start_worker: Start, start_node: StartNode, phone: Phone
) -> None:
    worker = start_worker()
    node = await start_node(worker)
    ports = [await node.open(session) for session in "abc"]
    worker.kill()
    await until(lambda: node.client._workers[0].link is None)
    worker.restart()
    await until(lambda: node.client.ports_free() > 0 and not node.client._reopening)
    assert await node.open("d") not in ports
    for session, port in zip("abc", ports, strict=True):
        assert await node.open(session) == port


async def test_a_worker_that_never_comes_back_is_lost_with_its_sessions(
    start_worker: Start, start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.media.client.REOPEN_PATIENCE_S", 0.1)
    worker = start_worker()
    node = await start_node(worker)
    await node.open("a")
    await node.open("closed-meanwhile")
    worker.kill()
    await until(lambda: node.client._workers[0].link is None)
    assert (await node.close("closed-meanwhile")).quality is None
    assert await node.ear.hears(MediaLost) == MediaLost(("a",))
    assert node.ear.given == []


@pytest.mark.usefixtures("nothing_in_hand")
async def test_a_connection_that_breaks_loses_nothing(start_worker: Start, start_node: StartNode, phone: Phone) -> None:
    worker = start_worker("--keepalive-s", "0.05")
    node = await start_node(worker)
    await node.open("kept")
    await node.open("closed-meanwhile")
    worker.signal(signal.SIGSTOP)
    link = node.client._workers[0].link
    assert link is not None
    link.socket.shutdown(socket.SHUT_RDWR)
    await until(lambda: not node.client._workers[0].ready)
    node.client.close_ports(ClosePorts("closed-meanwhile"))
    node.rule("kept", phone.rule(silence_payload_type=0))
    assert await node.ear.hears(PortsClosed) == PortsClosed("closed-meanwhile", None)
    worker.signal(signal.SIGCONT)
    assert len(await hears(phone)) == 172  # the rule was said again
    assert (await node.close("kept")).quality is not None
    await until(lambda: node.client.ports_free() == 2)
    assert node.ear.given == []


CHILD = """
import asyncio, json, sys
import bridge.media.client
bridge.media.client.RESERVED = 0  # the ports are told in the order in which they were asked for
from bridge.calls.facts import CallId
from bridge.engine.effects import OpenPorts, SetRule
from bridge.engine.inputs import PortsOpened
from bridge.media.client import MediaClient
from bridge.media.protocol import rule_from_data

async def main(path, rule):
    opened = []
    client = MediaClient([path], advertise="192.0.2.10", give=opened.append)
    await client.start()
    for session in ("kept", "timed-out", "orphan"):
        client.open_ports(OpenPorts(session, CallId("call_1")))
    while len(opened) < 3:
        await asyncio.sleep(0.01)
    client.set_rule(SetRule("kept", rule_from_data(json.loads(rule))))
    client.set_rule(SetRule("timed-out", rule_from_data(json.loads(rule) | {"expects_media": True})))
    await asyncio.sleep(1000)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_node_s_sessions_play_on_and_are_adopted(
    start_worker: Start, start_node: StartNode, phone: Phone
) -> None:
    worker = start_worker("--keepalive-s", "0.05", "--timeout-s", "0.2")
    rule = phone.rule(silence_payload_type=0)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, worker.path, json.dumps(rule_to_data(rule))
    )
    streams = {(await hears(phone))[8:12]}
    while len(streams) < 2:  # both rules have come
        streams.add((await hears(phone))[8:12])
    child.kill()
    await child.wait()
    phone.speak((worker.host, 20000), packets=2)
    wire = Wire(worker.path)
    wire.say(type="hello", v=1)
    listed: object = None
    while "'timed_out': True" not in str(listed):  # the second one's far end is missed while no client listens
        wire.say(type="list")
        listed = await asyncio.to_thread(wire.hear)
    wire.socket.close()
    while not phone.has_heard_nothing():
        phone.listen()
    await hears(phone)  # silence goes on

    node = await start_node(worker, heir=True)
    gone = HeldPorts(19998, None)  # a port that no worker has
    node.client.reconcile({"kept": HeldPorts(20000, rule), "timed-out": HeldPorts(20002, None), "gone": gone})
    assert await node.ear.hears(MediaLost) == MediaLost(("gone",))
    assert await node.ear.hears(MediaTimedOut) == MediaTimedOut("timed-out")
    assert await node.open("kept") == 20000  # re-bound to the port it had
    await until(lambda: node.client.totals().received == 2)
    await until(lambda: node.client.ports_free() == 1)  # two are in use, and the orphan's port rests
    closed = await node.close("kept")
    assert closed.quality is not None
    assert closed.quality.packets_received == 2
    assert node.ear.given == []


async def test_an_heir_opens_again_what_no_worker_has_any_more(
    start_worker: Start, start_node: StartNode, phone: Phone
) -> None:
    """The whole node was killed: neither the process that knew nor the one that held is there."""
    workers = [
        start_worker(name=f"media-{number}", ports=f"2000{4 * number}-2000{4 * number + 3}") for number in (0, 1)
    ]
    node = await start_node(*workers, heir=True)
    rule = phone.rule(silence_payload_type=0)
    node.client.reconcile({f"at-{port}": HeldPorts(port, rule) for port in (20002, 20004, 20006)})
    for port in (20002, 20004, 20006):
        assert await node.open(f"at-{port}") == port
    heard = {(await hears(phone))[8:12] for _ in range(3)}
    assert len(heard) == 3
    await until(lambda: node.client.ports_free() == 1)
    assert await node.open("new") == 20000
    assert node.ear.given == []


async def test_sessions_that_a_worker_has_closed_meanwhile_are_opened_again(
    start_worker: Start, start_node: StartNode
) -> None:
    """A node that was paused for longer than the grace finds its worker alive and its sessions gone."""
    worker = start_worker("--heartbeat-s", "0.1", "--grace-s", "0.4")  # shorter than the client's heartbeat
    node = await start_node(worker)
    port = await node.open("a")
    identity = node.client._workers[0].link
    await until(lambda: node.client._workers[0].link not in (None, identity) and node.client._workers[0].ready)
    assert await node.open("a") == port
    assert node.ear.given == []


async def test_a_worker_of_another_major_version_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.media.client.START_PATIENCE_S", 0.2)
    path = str(tmp_path / "later.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as later:
        later.bind(path)
        later.listen()
        node = Node(path)
        starting = asyncio.create_task(node.client.start())
        connection = (await asyncio.to_thread(later.accept))[0]
        with contextlib.closing(connection):
            connection.send(json.dumps({"type": "hello", "v": 2, "worker": "x"}).encode())
            await starting
        assert node.client.ports_free() == 0
        await node.client.close()


async def test_nothing_is_given_after_close(start_worker: Start) -> None:
    worker = start_worker()
    node = Node(worker.path)
    await node.client.start()
    node.client.open_ports(OpenPorts("a", CallId("call_1")))
    await node.client.close()
    node.client.close_ports(ClosePorts("b"))
    await asyncio.sleep(0)
    assert isinstance(node.ear, Ear)
    assert node.ear.given == []


async def test_a_port_in_hand_is_opened_without_asking(
    start_worker: Start, start_node: StartNode, phone: Phone
) -> None:
    worker = start_worker("--keepalive-s", "0.05")
    node = await start_node(worker)
    await until(lambda: len(node.client._workers[0].reserved) > 0)
    free = node.client.ports_free()
    worker.signal(signal.SIGSTOP)  # whatever it could say, it does not say
    assert await node.open("a") == 20000
    assert node.client.ports_free() == free - 1
    node.rule("a", phone.rule(silence_payload_type=0))
    worker.signal(signal.SIGCONT)
    await hears(phone)
    node.client.close_ports(ClosePorts("a"))
    assert (await node.ear.hears(PortsClosed)).quality is not None


async def test_the_first_rule_rides_with_the_opening(start_worker: Start, start_node: StartNode, phone: Phone) -> None:
    node = await start_node(start_worker())
    await until(lambda: len(node.client._workers[0].reserved) > 0)
    said: list[str] = []
    link = node.client._workers[0].link
    assert link is not None
    send = link.send
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(link), "send", lambda self, message: (said.append(str(message["type"])), send(message)))
        node.client.open_ports(OpenPorts("a", CallId("call_1")))
        await node.ear.hears(PortsOpened)
        node.rule("a", phone.rule())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [kind for kind in said if kind not in ("reserve", "heartbeat")] == ["open"]


async def test_a_worker_hears_of_a_rule_once_in_a_turn_and_only_of_a_new_one(
    start_worker: Start, start_node: StartNode, phone: Phone
) -> None:
    node = await start_node(start_worker())
    await node.open("a")
    await asyncio.sleep(0)
    said: list[object] = []
    link = node.client._workers[0].link
    assert link is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(link), "send", lambda _, message: said.append(message.get("rule", message["type"])))
        for muted in (False, True):
            node.rule("a", phone.rule(muted=muted))
        await asyncio.sleep(0)
        node.rule("a", phone.rule(muted=True))
        await asyncio.sleep(0)
    assert [rule for rule in said if rule != "heartbeat"] == [rule_to_data(phone.rule(muted=True))]


async def test_a_port_in_hand_that_was_not_needed_is_kept(start_worker: Start, start_node: StartNode) -> None:
    node = await start_node(start_worker())
    await until(lambda: len(node.client._workers[0].reserved) > 0)
    free = node.client.ports_free()
    node.client.open_ports(OpenPorts("a", CallId("call_1")))
    assert isinstance(node.ear.given.pop(), PortsOpened)  # at once: whoever asked need not come back for it
    node.client.close_ports(ClosePorts("a"))
    assert (await node.ear.hears(PortsClosed)).quality is None
    assert node.client.ports_free() == free
    assert node.ear.given == []


async def test_ports_in_hand_are_free_again_when_the_connection_ends(
    start_worker: Start, start_node: StartNode
) -> None:
    worker = start_worker()
    first = await start_node(worker)
    await until(lambda: len(first.client._workers[0].reserved) > 0)
    room = first.client.ports_free()
    await first.client.close()
    second = await start_node(worker)
    await until(lambda: second.client.ports_free() == room)
