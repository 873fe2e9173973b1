"""The links of a cluster on real sockets: what arrives, who is kept out, and what is left when a node is gone."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.cluster import Envelope, frames
from bridge.errors import LocalProtocolError, PeerGone, StartError, StoreUnavailable
from bridge.sip.flow import Flow, Send
from tests.cluster.nodes import FLOW, SECRET, SOON, Between, Membership, Node, Stranger, envelope
from tests.support.waiting import until

INVITE = b"INVITE sip:100@example.com SIP/2.0\r\n" + b"x" * 600
LOOKS = {"look_s": 0.02}


class Place:
    """A cluster, and whatever else a test opens in it."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.members = Membership()
        self._stack = stack

    async def node(self, owner: str, **facts: Any) -> Node:
        made = Node(owner, self.members, **facts)
        await made.cluster.open()
        self._stack.push_async_callback(made.cluster.close)
        return made

    def between(self, node: Node) -> Between:
        made = Between(node.address)
        self._stack.push_async_callback(made.close)
        return made

    async def stranger(self, node: Node) -> Stranger:
        made = await Stranger.dial(node.address)
        self._stack.callback(made.close)
        return made

    async def proven(self, node: Node, owner: str) -> Stranger:
        self.members.add(owner)
        made = await Stranger.proven(node, owner)
        self._stack.callback(made.close)
        return made


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        yield Place(stack)


# What arrives


async def test_messages_and_sends_go_both_ways_as_they_are(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")
    v6 = Flow("tcp", "tcp:[::]:5060", "2001:db8::1", 50_000)
    a.cluster.send_envelope("b:1", b.address, FLOW, INVITE)
    a.cluster.send_envelope("b:1", b.address, v6, b"\0\xff", holder="c:1")
    b.cluster.send("a:1", a.address, v6, INVITE)
    await until(lambda: len(b.envelopes) == 2 and a.sends, "all arrives")
    assert b.envelopes == [Envelope("a:1", FLOW, INVITE), Envelope("c:1", v6, b"\0\xff")]
    assert a.sends == [Send(v6, INVITE)]
    assert (a.cluster.counts.made, a.cluster.counts.accepted) == (1, 1)
    assert not a.dropped
    assert not b.dropped


async def test_what_one_turn_sends_leaves_as_one_write_and_arrives_in_order(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")
    numbered = [b"%d " % number + INVITE for number in range(10_000)]
    for each in numbered:
        a.tell(b, each)
    await until(lambda: len(b.envelopes) == 10_000, "all have come")
    assert b.heard == numbered
    size = sum(len(envelope(each)) for each in numbered)
    assert a.cluster.counts.writes <= size // (256 * 1024) + 10  # and a ping or two
    writes = a.cluster.counts.writes
    for each in numbered[:100]:
        a.tell(b, each)
    await until(lambda: len(b.envelopes) == 10_100, "they have come too")
    assert a.cluster.counts.writes <= writes + 1 + a.cluster.counts.sent - 10_100
    assert not a.dropped


async def test_a_flood_of_one_node_leaves_another_its_turn(place: Place) -> None:
    a, b, c = [await place.node(owner) for owner in ("a:1", "b:1", "c:1")]
    a.tell(b, b"first")
    c.tell(b, b"first")
    await until(lambda: len(b.envelopes) == 2, "both are connected")
    for _ in range(5000):
        a.tell(b, b"flood")
    c.tell(b, b"other")
    await until(lambda: len(b.envelopes) == 5003, "all have come")
    assert b.heard.index(b"other") < 5002


async def test_three_nodes_ask_each_other(place: Place) -> None:
    nodes = [await place.node(owner) for owner in ("a:1", "b:1", "c:1")]
    asked = [(one, other) for one in nodes for other in nodes if one is not other]
    answers = await asyncio.gather(
        *(one.ask(other, f"{one.owner} {number}".encode()) for one, other in asked for number in range(20))
    )
    assert answers == [f"{one.owner} {number}".encode() for one, _ in asked for number in range(20)]
    assert sorted(len(node.questions) for node in nodes) == [40, 40, 40]


async def test_answers_come_when_they_are_ready_and_none_holds_another_up(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")
    release = asyncio.Event()

    async def slow_first(question: bytes) -> bytes:
        if question == b"slow":
            await release.wait()
        return question

    b.answers = slow_first
    slow = asyncio.create_task(a.ask(b, b"slow"))
    await until(lambda: b.questions, "it is asked")
    assert await a.ask(b, b"fast") == b"fast"
    assert not slow.done()
    release.set()
    assert await slow == b"slow"


async def test_a_question_that_fails_there_fails_here_at_once(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")

    async def fails(question: bytes) -> bytes:
        raise RuntimeError("a fault")

    b.answers = fails
    with capture_logs() as lines, pytest.raises(PeerGone):
        await a.ask(b, b"?")
    assert [(line["event"], line["about"]) for line in lines] == [("fault", "Ask")]
    b.answers = lambda question: _answer(b"x" * (frames.MAX_CONTENT + 1))
    with pytest.raises(PeerGone):
        await a.ask(b, b"?")
    assert b.dropped == {"fault": 2}


async def test_a_question_that_the_store_would_have_to_answer_is_no_fault_of_ours(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")

    async def fails(question: bytes) -> bytes:
        raise StoreUnavailable("no answer within 2 s")

    b.answers = fails
    with capture_logs() as lines, pytest.raises(PeerGone):
        await a.ask(b, b"?")
    assert [(line["event"], line["log_level"], line["peer"]) for line in lines] == [
        ("question_unanswered", "warning", "a:1")
    ]
    assert not b.dropped


async def _answer(data: bytes) -> bytes:
    return data


async def test_a_question_without_an_answer_in_time(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")
    cancelled = asyncio.Event()

    async def never(question: bytes) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    b.answers = never
    with pytest.raises(PeerGone, match="within"):
        await a.ask(b, b"?", timeout_s=SOON)
    await cancelled.wait()  # nobody waits for it there either
    b.answers = _answer
    assert await a.ask(b, b"again") == b"again"


async def test_questions_are_bounded_on_both_sides(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1", asks=2)
    never = asyncio.Event()

    async def waits(question: bytes) -> bytes:
        await never.wait()
        return question

    b.answers = waits
    waiting = [asyncio.create_task(a.ask(b, b"?")) for _ in range(2)]
    await until(lambda: len(b.questions) == 2, "both are asked")
    with pytest.raises(PeerGone, match="could not answer"):
        await a.ask(b, b"one too many")
    few = await place.node("c:1", asks=1)
    waiting.append(asyncio.create_task(few.ask(a, b"?")))
    a.answers = waits
    await until(lambda: a.questions, "it is asked")
    with pytest.raises(PeerGone, match="too many"):
        await few.ask(a, b"?")
    never.set()
    assert await asyncio.gather(*waiting) == [b"?"] * 3


async def test_a_fault_in_taking_one_message_is_told_and_the_next_one_arrives(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")
    taken = b.envelope

    def fragile(given: Envelope) -> None:
        if given.data == b"bad":
            raise KeyError("no such listener")
        taken(given)

    b.envelope = fragile  # type: ignore[method-assign]
    with capture_logs() as lines:
        a.tell(b, b"bad")
        a.tell(b, b"good")
        await until(lambda: b.heard == [b"good"], "the other one arrives")
    assert b.dropped == {"fault": 1}
    assert [line["event"] for line in lines] == ["fault"]


# Who is kept out


async def test_another_secret_opens_nothing(place: Place) -> None:
    b = await place.node("b:1")
    with capture_logs() as lines:
        a = await place.node("a:1", secret=b"another one")
        a.tell(b, INVITE)
        await until(lambda: b.dropped["cluster_unproven"] and a.dropped["cluster_refused"], "both know")
        with pytest.raises(PeerGone):
            await a.ask(b, b"?")
    assert not b.envelopes + b.questions  # type: ignore[operator]
    (first, *_) = [line for line in lines if line["event"] == "cluster_link_lost"]
    assert "cluster.secret" in first["detail"]
    assert "another one" not in str(lines)
    assert SECRET.decode() not in str(lines)


async def test_another_major_version_is_refused_counted_and_told_once(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")
    wire = place.between(b)
    wire.touch = lambda data: data.replace(b"sip-bridge\1", b"sip-bridge\2")
    with capture_logs() as lines:
        for _ in range(3):
            before = b.dropped["cluster_version"]
            with pytest.raises(PeerGone):
                await a.ask(b, b"?", address=wire.address)
            await until(lambda before=before: b.dropped["cluster_version"] > before, "it is refused")
    assert b.questions == []
    (closed,) = [line for line in lines if line["event"] == "cluster_link_closed"]
    assert (closed["why"], closed["detail"]) == ("version", "it speaks version 2 of the protocol, and we 1")
    assert len([line for line in lines if line["event"] == "cluster_link_lost" and line["peer"] == "b:1"]) == 1


async def test_who_has_no_lease_is_kept_out_and_let_in_once_it_has(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")
    place.members.discard("a:1")
    a.tell(b, b"early")
    await until(lambda: b.dropped["cluster_not_leased"] and a.dropped["cluster_not_leased"], "it is refused")
    assert b.envelopes == []
    place.members.add("a:1")
    await until(lambda: b.heard == [b"early"], "it is let in")


async def test_a_question_to_who_has_not_heard_of_us_yet_waits_until_it_has(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")
    place.members.discard("a:1")
    asked = asyncio.create_task(a.ask(b, b"early?"))
    await until(lambda: a.dropped["cluster_not_leased"] >= 2, "it is refused, and comes again")
    assert not asked.done()
    place.members.add("a:1")
    assert await asked == b"early?"
    assert b.questions == [b"early?"]


async def test_nobody_connects_to_who_has_no_lease(place: Place) -> None:
    a, b = await place.node("a:1", queue_s=0.3), await place.node("b:1")
    place.members.discard("b:1")
    a.tell(b, INVITE)
    with pytest.raises(PeerGone):
        await a.ask(b, b"?")
    await until(lambda: a.dropped["cluster_stale"] == 1, "it is given up")
    assert a.dropped["cluster_not_leased"] > 0
    assert (a.cluster.counts.made, b.cluster.counts.accepted) == (0, 0)


async def test_who_loses_its_lease_is_not_heard_any_more(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")
    a.tell(b, b"leased")
    await until(lambda: b.heard == [b"leased"], "it is heard")
    place.members.discard("a:1")
    a.tell(b, b"zombie")
    await until(lambda: b.dropped["cluster_not_leased"], "its link is closed")
    assert b.heard == [b"leased"]


async def test_frames_for_another_incarnation_are_refused(place: Place) -> None:
    a, old = await place.node("a:1"), await place.node("b:1")
    a.tell(old, b"for the old one")
    await until(lambda: old.heard, "it arrives")
    await old.cluster.close()
    new = await place.node("b:2", address=old.address)
    with capture_logs() as lines:
        a.tell(old, b"for the old one")
        await until(lambda: a.dropped["cluster_wrong_node"] >= 2, "it is refused")
        with pytest.raises(PeerGone):
            await a.ask(old, b"?")
    assert new.dropped["cluster_wrong_node"] == 1
    assert {line.get("why") for line in lines} <= {"wrong_node", "closed", "unreachable"}
    a.tell(new, b"for the new one")
    await until(lambda: new.envelopes, "it arrives")
    assert new.heard == [b"for the new one"]
    assert new.questions == []


async def test_recorded_bytes_open_nothing(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")
    wire = place.between(b)
    a.tell(b, INVITE, address=wire.address)
    await until(lambda: b.envelopes, "it arrives")
    again = await place.stranger(b)
    await again.say(wire.recorded[0])
    assert await again.is_closed()
    assert b.dropped == {"cluster_unproven": 1}
    assert len(b.envelopes) == 1


async def test_frames_repeated_on_their_own_link_close_it(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")
    wire = place.between(b)
    a.tell(b, b"first", address=wire.address)
    await until(lambda: b.envelopes, "it arrives")
    wire.touch = lambda data: data + data
    a.tell(b, b"once", address=wire.address)
    await until(lambda: b.dropped["cluster_malformed"] and a.cluster.counts.ended, "the link is closed")
    wire.touch = lambda data: data
    a.tell(b, b"after", address=wire.address)
    await until(lambda: b.heard[-1] == b"after", "there is another link")
    assert b.heard == [b"first", b"once", b"after"]


async def test_a_touched_frame_closes_its_link_and_is_not_taken(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")
    wire = place.between(b)
    a.tell(b, b"first", address=wire.address)
    await until(lambda: b.envelopes, "it arrives")
    wire.touch = lambda data: data.replace(b"BYE", b"bye")
    with capture_logs() as lines:
        a.tell(b, b"BYE sip:100@example.com SIP/2.0", address=wire.address)
        await until(lambda: b.dropped["cluster_malformed"] and a.cluster.counts.ended, "the link is closed")
    wire.touch = lambda data: data
    a.tell(b, b"after", address=wire.address)
    await until(lambda: len(b.envelopes) == 2, "there is another link")
    assert b.heard == [b"first", b"after"]
    (line,) = [line for line in lines if line["event"] == "cluster_link_closed"]
    assert (line["peer"], line["why"]) == ("a:1", "malformed")


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + b"\0" * 512,
        struct.pack(">I", 0xFFFFFFFF),
        struct.pack(">I", 0),
        frames.unproven_frame(b"nonsense"),
        frames.unproven_frame(b"Hsip-bridge\1\0" + b"n" * 32),
        frames.unproven_frame(b"x" * 1025),
        b"\0" * 100_000,
    ],
)
async def test_garbage_is_closed_counted_and_told_once(place: Place, garbage: bytes) -> None:
    b = await place.node("b:1")
    with capture_logs() as lines:
        stranger = await place.stranger(b)
        await stranger.say(garbage)
        assert await stranger.is_closed()
        await until(lambda: b.dropped, "it is counted")
    assert b.dropped == {"cluster_malformed": 1}
    assert [line["event"] for line in lines] == ["cluster_link_closed"]
    assert b.cluster.counts.ended == {"malformed": 1}


async def test_who_is_proven_may_not_send_what_is_no_frame_either(place: Place) -> None:
    b = await place.node("b:1")
    for number, garbage in enumerate((struct.pack(">I", frames.MAX_FRAME + 1), b"", b"\1\0\xffxx", b"\3x")):
        peer = await place.proven(b, f"a:{number}")
        if number == 0:
            await peer.say(garbage)
        else:
            await peer.say_frames(garbage or b"\1")
        assert await peer.is_closed()
    await until(lambda: b.dropped["cluster_malformed"] == 4, "all are counted")
    assert b.envelopes == []


async def test_kinds_of_a_later_version_do_no_harm(place: Place) -> None:
    b = await place.node("b:1")
    peer = await place.proven(b, "a:1")
    await peer.say_frames(b"\xc8what is this", envelope(b"known"), frames.answer(7, b"nobody asked"), frames.PING)
    assert await peer.hear_frame() == frames.PONG
    assert b.heard == [b"known"]
    assert not b.dropped


async def test_a_flood_of_strangers_fills_no_log(place: Place) -> None:
    b = await place.node("b:1")
    with capture_logs() as lines:
        for _ in range(60):
            stranger = await place.stranger(b)
            await stranger.say(b"GET / HTTP/1.1\r\n\r\n")
            assert await stranger.is_closed()
        await until(lambda: b.dropped["cluster_malformed"] == 60, "all are counted")
    seconds = 1 + sum(1 for line in lines if "withheld_before" in line)
    assert len(lines) <= 20 * (seconds + 1)


async def test_who_does_not_prove_itself_in_time_is_closed(place: Place) -> None:
    b = await place.node("b:1", handshake_s=SOON, **LOOKS)
    mute, slow = await place.stranger(b), await place.stranger(b)

    async def drip() -> None:
        for byte in frames.unproven_frame(b"Hsip-bridge" + b"\1" * 200):
            await slow.say(bytes((byte,)))
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    assert await mute.is_closed()
    assert await slow.is_closed()
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    assert b.dropped == {"cluster_slow": 2}


async def test_a_frame_that_does_not_get_complete(place: Place) -> None:
    b = await place.node("b:1", frame_s=SOON, **LOOKS)
    peer = await place.proven(b, "a:1")
    await peer.say_frames(envelope(b"whole"))
    await peer.say(peer.seal.frames([envelope(INVITE)])[:-1])
    assert await peer.is_closed()
    assert b.dropped == {"cluster_slow": 1}
    assert b.heard == [b"whole"]


async def test_those_who_prove_nothing_do_not_keep_a_node_out(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1", unproven=3)
    strangers = [await place.stranger(b) for _ in range(5)]
    assert await strangers[0].is_closed()
    assert await strangers[1].is_closed()
    a.tell(b, INVITE)
    await until(lambda: b.envelopes, "a node comes in")
    assert await strangers[2].is_closed()
    assert b.dropped == {"cluster_full": 3}


async def test_a_node_has_one_link_and_the_last_one_counts(place: Place) -> None:
    b = await place.node("b:1")
    first = await place.proven(b, "a:1")
    second = await place.proven(b, "a:1")
    assert await first.is_closed()
    await second.say_frames(envelope(b"second"))
    await until(lambda: b.heard == [b"second"], "it is heard")
    assert not b.dropped


# Who is gone


async def test_a_process_that_is_killed_while_it_owes_an_answer(place: Place) -> None:
    a = await place.node("a:1")
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cluster.mute_node", "b:1", "a:1", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert program.stdout is not None
        port = int(await program.stdout.readline())
        place.members.add("b:1")
        asking = asyncio.create_task(a.cluster.ask("b:1", ("127.0.0.1", port), b"?", timeout_s=60))
        assert (await program.stdout.readline()).strip() == b"asked"
        program.kill()
        with pytest.raises(PeerGone, match="has ended"):
            await asking
    finally:
        if program.returncode is None:
            program.kill()
        await program.wait()


async def test_a_link_that_is_cut_is_made_again_and_its_questions_fail(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1")
    b.answers = lambda question: _never()
    wire = place.between(b)
    asking = asyncio.create_task(a.ask(b, b"?", address=wire.address))
    await until(lambda: b.questions, "it is asked")
    wire.cut()
    with pytest.raises(PeerGone):
        await asking
    a.tell(b, b"after", address=wire.address)
    await until(lambda: b.heard == [b"after"], "there is another link")
    assert (wire.connections, a.cluster.counts.made) == (2, 2)


async def _never() -> bytes:
    await asyncio.Event().wait()
    return b""


async def test_a_peer_that_is_silent_is_given_up_and_found_again(place: Place) -> None:
    a = await place.node("a:1", silent_s=0.2, **LOOKS)
    b = await place.node("b:1", silent_s=0.2, **LOOKS)
    wire = place.between(b)
    a.tell(b, b"first", address=wire.address)
    await until(lambda: b.envelopes, "it arrives")
    wire.blocked = True
    await until(lambda: a.dropped["cluster_silent"] and b.dropped["cluster_silent"], "both have noticed")
    wire.blocked = False
    a.tell(b, b"second", address=wire.address)
    await until(lambda: b.heard == [b"first", b"second"], "there is another link")


async def test_pings_keep_a_link_that_is_not_used_until_it_is_idle(place: Place) -> None:
    a = await place.node("a:1", silent_s=0.2, idle_s=1.0, **LOOKS)
    b = await place.node("b:1", silent_s=0.2, **LOOKS)
    a.tell(b, b"only")
    await until(lambda: a.cluster.counts.ended["idle"], "it is idle")
    assert a.cluster.counts.sent > 5
    assert a.cluster.counts.ended == {"idle": 1}
    assert not a.dropped
    await until(lambda: b.cluster.counts.ended == {"closed": 1}, "the other side knows")
    a.tell(b, b"again")
    await until(lambda: b.heard == [b"only", b"again"], "there is another link")


async def test_what_waits_for_a_peer_that_is_away_is_bounded_in_time(place: Place) -> None:
    a = await place.node("a:1", queue_s=0.2, **LOOKS)
    place.members.add("b:1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
    a.cluster.send_envelope("b:1", address, FLOW, b"too early")
    await until(lambda: a.dropped["cluster_stale"] == 1, "it is too old")
    assert a.dropped["cluster_unreachable"] >= 2  # tried again meanwhile
    b = await place.node("b:1", address=address)
    a.tell(b, b"in time")
    await until(lambda: b.envelopes, "it arrives")
    assert b.heard == [b"in time"]


async def test_an_address_that_is_none(place: Place) -> None:
    a = await place.node("a:1", queue_s=0.2)
    place.members.add("b:1")
    for address in (("", 70_000), ("x" * 300, 1), ("no.such.name.invalid", 1)):
        with pytest.raises(PeerGone):
            await a.cluster.ask("b:1", address, b"?", timeout_s=30)
    assert "fault" not in a.dropped


async def test_what_waits_for_a_peer_that_does_not_read_is_bounded_in_bytes(place: Place) -> None:
    a = await place.node("a:1", queue_bytes=500_000, queue_s=60.0, silent_s=60.0)
    b = await place.node("b:1", silent_s=60.0)
    wire = place.between(b)
    a.tell(b, b"first", address=wire.address)
    await until(lambda: b.envelopes, "it arrives")
    wire.blocked = True
    told = 0
    while not a.dropped["cluster_queue_full"]:
        a.tell(b, b"%06d" % told + b"x" * 10_000, address=wire.address)
        told += 1
        await asyncio.sleep(0)
        assert told < 1000, "10 MB wait somewhere"
    with pytest.raises(PeerGone, match="can wait"):
        await a.ask(b, b"x" * 20_000, address=wire.address)
    wire.blocked = False
    await until(lambda: len(b.envelopes) == told, "all but the dropped one arrive")
    assert [int(each[:6]) for each in b.heard[1:]] == list(range(told - 1))


async def test_messages_that_wait_too_long_for_a_slow_reader_do_not_leave(place: Place) -> None:
    a = await place.node("a:1", queue_s=0.1, silent_s=60.0, **LOOKS)
    b = await place.node("b:1", silent_s=60.0)
    wire = place.between(b)
    a.tell(b, b"first", address=wire.address)
    await until(lambda: b.envelopes, "it arrives")
    wire.blocked = True
    for _ in range(300):
        a.tell(b, b"x" * 10_000, address=wire.address)
        await asyncio.sleep(0)
    await until(lambda: a.dropped["cluster_stale"] > 50, "what did not leave is too old")
    wire.blocked = False
    a.tell(b, b"last", address=wire.address)
    await until(lambda: b.heard[-1] == b"last", "what is new arrives")
    assert len(b.envelopes) == 302 - a.dropped["cluster_stale"]


# Opening and closing


async def test_closing_gives_everything_back_and_sends_what_was_queued(place: Place) -> None:
    await (
        await place.node("first:1")
    ).cluster.close()  # with its first listener uvloop takes a spare descriptor, for good
    tasks, descriptors = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
    a, b, c = [await place.node(owner) for owner in ("a:1", "b:1", "c:1")]
    b.answers = lambda question: _never()
    a.tell(b, b"first")
    await until(lambda: b.envelopes, "they are connected")
    asking = asyncio.create_task(a.ask(b, b"?"))
    await until(lambda: b.questions, "it is asked")
    stranger = await place.stranger(b)
    place.members.add("d:1")
    a.cluster.send_envelope("d:1", ("127.0.0.1", 9), FLOW, b"nobody is there")
    a.tell(c, b"not connected yet")
    a.tell(b, b"last")
    await a.cluster.close()
    with pytest.raises(PeerGone):
        await asking
    await until(lambda: b.heard == [b"first", b"last"], "what was queued has left")
    await b.cluster.close()
    await c.cluster.close()
    assert await stranger.is_closed()
    stranger.close()
    assert len(asyncio.all_tasks()) == tasks
    await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors, "every descriptor is given back")
    with pytest.raises(LocalProtocolError):
        a.tell(c, INVITE)


async def test_it_can_send_as_soon_as_it_is_bound_and_is_heard_of_once_it_is_open(place: Place) -> None:
    a, b = await place.node("a:1"), Node("b:1", place.members)
    with pytest.raises(LocalProtocolError):
        b.tell(a, INVITE)
    await b.cluster.bind()
    try:
        b.tell(a, b"bound")
        await until(lambda: a.heard == [b"bound"], "it arrives")
        a.tell(b, b"waits")
        await b.cluster.open()
        await until(lambda: b.heard == [b"waits"], "it arrives too")
    finally:
        await b.cluster.close()


async def test_nothing_is_for_ourselves(place: Place) -> None:
    a = await place.node("a:1")
    with pytest.raises(LocalProtocolError):
        a.tell(a, INVITE)


@pytest.mark.parametrize(
    ("address", "why"),
    [(("192.0.2.1", 7070), "cluster.listen"), (("no.such.name.invalid", 7070), "cluster.listen"), (None, "taken")],
)
async def test_where_nobody_can_listen(place: Place, address: tuple[str, int] | None, why: str) -> None:
    taken = await place.node("a:1")
    other = Node("b:1", place.members, address=address or taken.address)
    with pytest.raises(StartError, match=why):
        await other.cluster.open()
    await other.cluster.close()


async def test_closing_what_never_was_open_does_nothing(place: Place) -> None:
    await Node("a:1", place.members).cluster.close()


async def test_ipv6(place: Place) -> None:
    a, b = await place.node("a:1"), await place.node("b:1", address=("::1", 0))
    assert await a.ask(b, b"?") == b"?"
