"""Two releases side by side, as in every rolling update: what each writes, claims and hands over (survival §2, Versions).

Real nodes over the memory store; those of the newer release read one more version of stored calls.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge import draining, membership
from bridge.announcing import age, announcement, shared_version
from bridge.calls.facts import CallId
from bridge.errors import PeerGone
from bridge.store import Whereabouts
from tests.support.linked import Linked, Wire
from tests.support.waiting import until

OLDER, NEWER = (1,), (1, 2)


@pytest.fixture
async def wire(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    monkeypatch.setattr(membership, "RENEW_S", 0.01)
    monkeypatch.setattr(draining, "AGAIN_S", 0.01)
    monkeypatch.setattr(draining, "ALONE_S", 0.1)
    wire = Wire()
    yield wire
    await wire.close()


async def nodes(wire: Wire, *reads: tuple[int, ...]) -> list[Linked]:
    made = [
        await wire.add(f"n{number}:x", reads=each, release=f"0.{max(each)}.0") for number, each in enumerate(reads, 1)
    ]
    await wire.announce()
    return made


def stored(wire: Wire, call: CallId) -> tuple[int, int, int]:
    """The versions of the conversation and of the call's two parts."""
    place = wire.keyspace.whereabouts(call)
    assert place is not None
    conversation, record = wire.keyspace.conversation(place.conversation), wire.keyspace.stored_call(call)
    assert conversation is not None
    assert record is not None
    head, fixed, variable = (json.loads(each)["v"] for each in (conversation.head, record.fixed, record.variable))
    return head, fixed, variable


async def keep(wire: Wire, *living: Linked, seconds: float = 10.0) -> None:
    """They renew, and see to what others have left, while this time passes."""
    for _ in range(round(seconds)):
        wire.clock.time += 1.0
        for node in living:
            for legacy in node.membership._legacies.values():
                legacy.noticed_at -= 1.0  # its loop's clock is another one
            await node.membership._see_to(await node.membership.announce())


class TestWriting:
    async def test_everybody_of_the_newer_release_means_the_newer_version(self, wire: Wire) -> None:
        first, _ = await nodes(wire, NEWER, NEWER)
        call, _ = await first.talking("one")
        assert stored(wire, call) == (2, 2, 2)

    async def test_one_of_the_older_is_enough_for_the_older_version(self, wire: Wire) -> None:
        first, _ = await nodes(wire, NEWER, OLDER)
        call, _ = await first.talking("one")
        assert stored(wire, call) == (1, 1, 1)

    async def test_when_the_last_of_the_older_has_gone_the_next_write_is_of_the_newer(self, wire: Wire) -> None:
        first, second = await nodes(wire, NEWER, OLDER)
        call, tag = await first.talking("one")
        await wire.kill(second)
        first.say("INVITE", "one", number=2, to_tag=tag)
        await until(lambda: stored(wire, call)[2] == 2, "it is written again")
        assert stored(wire, call) == (2, 1, 2), "what is written once stays as it was; the newer release reads both"

    async def test_one_of_the_older_that_comes_later_cannot_have_what_was_written_once(self, wire: Wire) -> None:
        (first,) = await nodes(wire, NEWER)
        call, tag = await first.talking("one")
        await wire.add("n2:x", reads=OLDER)
        await wire.announce()
        before = wire.keyspace._conversations.get(first.conversation(call))
        first.say("INVITE", "one", number=2, to_tag=tag)
        await until(
            lambda: wire.keyspace._conversations.get(first.conversation(call)) is not before, "it is written again"
        )
        assert stored(wire, call) == (2, 2, 2), (
            "a conversation does not go back: who reads one part of it reads the others"
        )
        late, _ = await first.talking("late")
        assert stored(wire, late) == (1, 1, 1)

    async def test_nothing_that_all_read_is_an_error_told_once(self, wire: Wire) -> None:
        first, _ = await nodes(wire, (2, 3), (1,))
        with capture_logs() as logs:
            first.membership._nothing_shared = False
            for _ in range(3):
                await first.membership.announce()
        assert [each["log_level"] for each in logs if each["event"] == "no_shared_version"] == ["error"]


class TestClaiming:
    async def test_what_cannot_be_read_is_left_counted_and_told_once(self, wire: Wire) -> None:
        first, second = await nodes(wire, NEWER, NEWER)
        call, _ = await first.talking("one")
        another, _ = await first.talking("two")
        older = await wire.add("n3:x", reads=OLDER)
        await wire.announce()
        await wire.kill(second)
        await wire.kill(first)
        with capture_logs() as logs:
            await keep(wire, older)
        assert older.pump.node.carried == 0
        place = wire.keyspace.whereabouts(call)
        assert place is not None
        assert place.owner == "n1:x"
        told = [each for each in logs if each["event"] == "snapshots_left"]
        assert [(each["node"], each["conversations"], each["versions"]) for each in told] == [("n1:x", 2, [2])]
        assert older.metrics.unreadable._value.get() == 2
        newer = await wire.add("n4:x", reads=NEWER)
        await wire.announce()
        await keep(wire, older, newer)
        assert {each.id for each in newer.pump.node.calls()} == {call, another}

    async def test_a_message_for_one_does_not_make_us_claim_it_either(self, wire: Wire) -> None:
        (first,) = await nodes(wire, NEWER)
        call, tag = await first.talking("one")
        older = await wire.add("n2:x", reads=OLDER)
        await wire.announce()
        await wire.kill(first)
        older.say("BYE", "one", number=2, to_tag=tag)
        await until(lambda: older.dropped["owner_unknown"], "it is not denied: somebody may come who can read it")
        assert older.sent == []
        assert older.pump.node.call(call) is None

    async def test_those_who_read_it_are_its_heirs_at_once(self, wire: Wire) -> None:
        first, *_ = await nodes(wire, NEWER, NEWER)
        calls = [(await first.talking(name))[0] for name in ("one", "two", "three", "four", "five")]
        older = await wire.add("n3:x", reads=OLDER)
        await wire.announce()
        second = wire.nodes["n2:x"]
        await wire.kill(first)
        lease = await second.membership.announce()
        with capture_logs() as logs:
            await older.membership._see_to(lease)
            await second.membership._see_to(lease)
        assert {each.id for each in second.pump.node.calls()} == set(calls), "before they are free for all"
        assert "snapshots_left" not in {each["event"] for each in logs}

    async def test_a_name_that_comes_back_with_the_older_release_leaves_it_to_the_next(self, wire: Wire) -> None:
        (first,) = await nodes(wire, NEWER)
        call, _ = await first.talking("one")
        first.pump.close()
        del wire.nodes["n1:x"]
        wire.clock.time += 1.0
        older = await wire.add("n1:older", reads=OLDER)
        with capture_logs() as logs:
            await older.membership.succeed()
        assert older.pump.node.call(call) is None
        assert [each["event"] for each in logs].count("snapshots_left") == 1
        older.pump.close()
        wire.clock.time += 1.0
        newer = await wire.add("n1:newer", reads=NEWER)
        await newer.membership.succeed()
        assert newer.pump.node.call(call) is not None

    async def test_whoever_drains_is_nobody_s_heir_while_others_are_there(self, wire: Wire) -> None:
        first, second, third = await nodes(wire, OLDER, OLDER, OLDER)
        calls = {(await first.talking(name))[0] for name in ("one", "two", "three", "four", "five")}
        await second.draining.begin()
        await wire.announce()
        await wire.kill(first)
        lease = await third.membership.announce()
        await second.membership._see_to(lease)
        await third.membership._see_to(lease)
        assert {each.id for each in third.pump.node.calls()} == calls


class TestHandingOver:
    async def test_only_whoever_reads_it_gets_it(self, wire: Wire) -> None:
        first, second = await nodes(wire, NEWER, NEWER)
        calls = {(await first.talking(name))[0] for name in ("one", "two", "three", "four", "five")}
        older = await wire.add("n3:x", reads=OLDER)
        await wire.announce()
        assert await first.draining.run(20.0) == 5
        assert {each.id for each in second.pump.node.calls()} == calls
        assert older.pump.node.carried == 0

    async def test_without_one_they_stay(self, wire: Wire) -> None:
        (first,) = await nodes(wire, NEWER)
        await first.talking("one")
        await wire.add("n2:x", reads=OLDER)
        await wire.announce()
        assert await first.draining.run(20.0) == 0
        assert first.pump.node.live == 1

    async def test_the_newest_release_is_preferred(self, wire: Wire) -> None:
        first, second, third = await nodes(wire, OLDER, OLDER, NEWER)
        calls = {(await first.talking(name))[0] for name in ("one", "two", "three", "four", "five")}
        assert await first.draining.run(20.0) == 5
        assert {each.id for each in third.pump.node.calls()} == calls
        assert second.pump.node.carried == 0

    async def test_an_heir_that_has_not_understood_is_told_again(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = await nodes(wire, OLDER, OLDER)
        call, _ = await first.talking("one")
        answer, refused = second.switchboard.answer, []

        async def refusing(question: bytes) -> bytes:
            if not refused:
                refused.append(question)
                return b'{"v":1,"refused":["wrong_state","of another release"]}'
            return await answer(question)

        monkeypatch.setattr(second.switchboard, "answer", refusing)
        assert await first.draining.run(20.0) == 1
        assert second.pump.node.call(call) is not None


class TestUnknown:
    async def test_a_newer_release_s_fields_outlive_an_older_one(self, wire: Wire) -> None:
        first, second = await nodes(wire, OLDER, OLDER)
        call, _ = await first.talking("one")
        place = wire.keyspace.whereabouts(call)
        assert place is not None
        _add(wire, place, call)
        await wire.kill(first)
        await keep(wire, second)
        await until(lambda: second.pump.node.call(call) and not second.pump.node.call(call).move, "it is carried on")  # type: ignore[union-attr]
        record, conversation = wire.keyspace.stored_call(call), wire.keyspace.conversation(place.conversation)
        assert record is not None
        assert conversation is not None
        assert json.loads(record.variable)["recovered"] == 1, "it has been written by the second"
        assert [json.loads(each)["later"] for each in (record.fixed, record.variable, conversation.head)] == [
            {"a": [1]},
            {"a": [1]},
            {"a": [1]},
        ]

    @pytest.mark.parametrize(
        "question",
        [{"v": 2, "take": "conv_x", "node": "n1:x"}, {"v": 1, "dance": True}, {"v": 1, "take": "conv_x"}, []],
        ids=["version", "kind", "field", "shape"],
    )
    async def test_a_question_that_is_not_understood_is_refused_and_nothing_is_done(
        self, wire: Wire, question: Any
    ) -> None:
        (first,) = await nodes(wire, OLDER)
        with capture_logs() as logs:
            answer = json.loads(await first.switchboard.answer(json.dumps(question).encode()))
        assert answer["refused"][0] == "wrong_state"
        assert [each["event"] for each in logs] == ["question_unreadable"]

    async def test_an_answer_that_is_none_is_a_node_that_does_not_answer(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = await nodes(wire, OLDER, OLDER)

        async def babbling(_: bytes) -> bytes:
            return b"[]"

        monkeypatch.setattr(second.switchboard, "answer", babbling)
        (neighbour,) = first.switchboard.ready()
        with pytest.raises(PeerGone, match="do not understand"):
            await first.switchboard.drain(neighbour)


def _add(wire: Wire, place: Whereabouts, call: CallId) -> None:
    """A newer release, of the same version, has written this."""
    record = wire.keyspace._conversations.get(place.conversation)
    assert record is not None
    for part in (record.fixed, record.variable):
        part[call] = json.dumps(json.loads(part[call]) | {"later": {"a": [1]}}).encode()
    head = json.dumps(json.loads(record.head) | {"later": {"a": [1]}}).encode()
    wire.keyspace._conversations.put(place.conversation, replace(record, head=head))


class TestAnnouncements:
    @pytest.mark.parametrize("facts", [b"", b"[]", b"7", b"{}", b"\xff", b'{"versions":"x","cluster":1,"load":[]}'])
    def test_what_says_nothing_reads_the_first_version_and_is_nowhere(self, facts: bytes) -> None:
        said = announcement(facts)
        assert (said.versions, said.cluster, said.load, said.draining) == ((1,), None, None, False)

    def test_the_newest_version_that_all_read(self) -> None:
        both, newer = announcement(b'{"versions":[1,2]}'), announcement(b'{"versions":[2,3]}')
        assert shared_version((2, 3), [both, newer]) == 2
        assert shared_version((1, 2), [both]) == 2
        assert shared_version((3,), [both]) is None

    def test_releases_are_compared_by_their_numbers(self) -> None:
        assert sorted(["0.10.0", "0.9.1", "", "1.0"], key=age) == ["", "0.9.1", "0.10.0", "1.0"]


async def test_a_stop_waits_for_what_a_drain_has_under_way(wire: Wire) -> None:
    first, second = await nodes(wire, OLDER, OLDER)
    calls = {(await first.talking(name))[0] for name in ("one", "two", "three")}
    _, moved = await asyncio.gather(first.draining.begin(), first.draining.run(20.0))
    assert moved == 3
    assert {each.id for each in second.pump.node.calls()} == calls
