"""A join whose other call is at another node: real nodes over the memory store, and a wire between them that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from bridge import fetching, handing, switchboard
from bridge.calls.actions import Hangup, Join, Mute, Target
from bridge.calls.facts import CallId, ConversationId
from bridge.engine.commit import Claim, HandOver
from bridge.engine.effects import CommandAccepted, Originated, OriginateRefused
from bridge.engine.inputs import Drain, Originate
from bridge.errors import StoreUnavailable
from bridge.store import Whereabouts
from tests.support.linked import Linked, Wire
from tests.support.waiting import until


@pytest.fixture
async def wire(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    monkeypatch.setattr(switchboard, "ARRIVING_S", 0.01)
    monkeypatch.setattr(fetching, "AGAIN_S", 0.01)
    monkeypatch.setattr(handing, "AGAIN_S", 0.01)
    wire = Wire()
    yield wire
    await wire.close()


async def three(wire: Wire) -> tuple[Linked, Linked, Linked]:
    nodes = [await wire.add(owner) for owner in ("n1:a", "n2:b", "n3:c")]
    await wire.announce()
    return nodes[0], nodes[1], nodes[2]


async def join(by: Linked, call: CallId, other: CallId) -> str:
    """Ask this node for it, whoever carries the call; the name of the action."""
    said = await by.switchboard.command(call, (Join(call_id=other),), listed=False)
    assert isinstance(said, CommandAccepted)
    return said.action_ids[0]


def told(wire: Wire, call: CallId, kind: str) -> list[dict[str, object]]:
    """The events of this kind that are stored of the call."""
    return [data for name, data in wire.events(call) if name == kind]


async def keep_busy(node: Linked, call: CallId) -> None:
    """An event of this call is under way until `take_all`."""
    node.taking = False
    await node.switchboard.command(call, (Mute(),), listed=False)
    await until(lambda: node.untaken, "it is under way")


async def failed(wire: Wire, call: CallId) -> tuple[object, object]:
    """The code of the join's failure, and what caused it."""
    await until(lambda: told(wire, call, "action.failed"), "it has failed")
    (data,) = told(wire, call, "action.failed")
    return data["code"], data["caused_by"]


async def joined(wire: Wire, *calls: CallId) -> Linked:
    """Both hear each other; at which node."""
    await until(lambda: all(told(wire, call, "call.joined") for call in calls), "they are joined")
    (node,) = [each for each in wire.nodes.values() if each.pump.node.call(calls[0]) is not None]
    assert {call.id for call in node.pump.node.calls()} >= set(calls)
    assert all(len(told(wire, call, "call.joined")) == 1 for call in calls)
    assert node.conversation(calls[0]) == node.conversation(calls[1])
    return node


class TestFetching:
    async def test_the_other_call_comes_to_where_the_join_is_run(self, wire: Wire) -> None:
        first, second, third = await three(wire)
        one, _ = await first.talking("one")
        two, tag = await second.talking("two")
        await join(third, one, two)
        assert await joined(wire, one, two) is first
        assert second.pump.node.carried == 0
        assert [kind for kind, _ in wire.events(two)] == [
            "call.incoming",
            "call.answered",
            "call.recovered",
            "call.joined",
        ]
        second.say("BYE", "two", number=9, to_tag=tag)
        await until(lambda: second.said("two", 200, "BYE"), "its caller still speaks to the other node")
        assert first.pump.node.call(one).link is None  # type: ignore[union-attr]

    async def test_each_joins_the_other_at_the_same_time(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        two, _ = await second.talking("two")
        smaller = first if first.conversation(one) < second.conversation(two) else second
        await asyncio.gather(join(first, one, two), join(second, two, one))
        assert await joined(wire, one, two) is smaller
        await until(lambda: not any(each.fetching._fetches for each in (first, second)), "nobody looks any more")
        assert (first.pump.node.live, second.pump.node.live) in {(2, 0), (0, 2)}

    async def test_three_in_a_circle_come_together_and_are_not_passed_around(self, wire: Wire) -> None:
        nodes = await three(wire)
        calls = [(await node.talking(f"call{number}"))[0] for number, node in enumerate(nodes)]
        await asyncio.gather(*(join(node, calls[place], calls[place - 1]) for place, node in enumerate(nodes)))
        while any(each.fetching._fetches for each in nodes):
            await asyncio.sleep(0.01)
            for node in nodes:
                await node.settle()
        await until(lambda: any(told(wire, call, "call.joined") for call in calls), "some are joined")
        for call in calls:
            assert len(told(wire, call, "call.recovered")) <= 2

    async def test_one_that_rings_is_answered_there_and_ours_goes_to_it(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        second.answering = False
        second.say("INVITE", "two")
        await until(lambda: second.pump.node.live and wire.keyspace._calls, "it is there")
        (two,) = [call.id for call in second.pump.node.calls()]
        await until(lambda: second.taken[two], "its application says nothing yet")
        await join(first, one, two)
        (ok,) = await until(lambda: second.said("two", 200), "it is answered for that")
        second.say("ACK", "two", to_tag=ok.tag("to"))
        assert await joined(wire, one, two) is second

    async def test_one_that_is_busy_is_waited_for(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        two, _ = await second.talking("two")
        await keep_busy(second, two)
        await join(first, one, two)
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert told(wire, one, "call.joined") == told(wire, one, "action.failed") == []
        second.take_all()
        await second.settle()
        assert await joined(wire, one, two) is first

    async def test_one_that_stays_busy_fails_the_join(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fetching, "FETCH_S", 0.1)
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        two, _ = await second.talking("two")
        await keep_busy(second, two)
        action = await join(first, one, two)
        assert await failed(wire, one) == ("wrong_state", action)
        assert second.pump.node.call(two) is not None

    async def test_one_that_nobody_has(self, wire: Wire) -> None:
        first, *_ = await three(wire)
        one, _ = await first.talking("one")
        action = await join(first, one, CallId("call_nobody"))
        assert await failed(wire, one) == ("not_found", action)

    async def test_one_that_has_ended(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        two, tag = await second.talking("two")
        second.say("BYE", "two", number=2, to_tag=tag)
        await until(lambda: wire.keyspace.final_record(two), "it has ended")
        action = await join(first, one, two)
        assert await failed(wire, one) == ("ended", action)

    async def test_one_that_ends_while_it_is_asked_for(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        two, tag = await second.talking("two")
        await keep_busy(second, two)
        action = await join(first, one, two)
        second.say("BYE", "two", number=2, to_tag=tag)
        assert await failed(wire, one) == ("ended", action)

    async def test_ours_that_ends_while_another_is_asked_for(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        one, tag = await first.talking("one")
        two, _ = await second.talking("two")
        await keep_busy(second, two)
        await join(first, one, two)
        first.say("BYE", "one", number=2, to_tag=tag)
        await until(lambda: not first.fetching._fetches, "nobody waits for it")
        assert second.pump.node.call(two) is not None
        assert told(wire, one, "action.failed") == []

    async def test_a_node_that_dies_on_the_way_is_inherited(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        two, _ = await second.talking("two")
        wire.cut.add("n2:b")
        await join(first, one, two)
        await until(lambda: any(owner == "n2:b" for owner, _ in wire.asked), "it is asked")
        await wire.kill(second)
        assert await joined(wire, one, two) is first

    async def test_what_was_written_over_and_never_told_is_taken_up(self, wire: Wire) -> None:
        """The other node dies, or is cut off, right after the store has said whose it is."""
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        two, _ = await second.talking("two")
        hand_over = second.store.hand_over

        async def dying(given: HandOver) -> bool:
            written = await hand_over(given)
            wire.cut |= {"n1:a", "n2:b"}
            return written

        second.store.hand_over = dying  # type: ignore[method-assign]
        await join(first, one, two)
        await until(lambda: first.pump.node.call(two) is not None, "it is taken up")
        wire.cut.clear()
        wire.clock.time += 1.0
        await first.settle()  # its re-INVITE, which could not leave, is repeated
        assert await joined(wire, one, two) is first

    async def test_a_node_that_is_cut_off_is_told_of_in_the_end(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fetching, "FETCH_S", 0.1)
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        two, _ = await second.talking("two")
        wire.cut.add("n2:b")
        action = await join(first, one, two)
        assert await failed(wire, one) == ("unreachable", action)

    async def test_without_a_store_nobody_knows_where_it_is(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        two, _ = await second.talking("two")
        await join(first, one, two)
        first.store.go_away()
        for _ in range(5):
            await asyncio.sleep(0.01)
        first.store.come_back()
        assert await joined(wire, one, two) is first

    async def test_a_draining_node_s_call_goes_to_the_join_and_a_join_never_to_a_draining_node(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second, third = await three(wire)
        one, _ = await first.talking("one")
        two, _ = await second.talking("two")
        first.pump.give(Drain())
        first.membership.facts["draining"] = True
        await wire.announce()
        await join(first, one, two)
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert second.pump.node.call(two) is not None
        assert await first.draining.run(5.0) == 1
        assert await joined(wire, one, two) in (second, third)

    async def test_an_heir_that_the_store_refuses_leaves_it_where_it_was(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fetching, "FETCH_S", 0.3)
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        two, tag = await second.talking("two")
        hand_over = second.store.hand_over

        async def refusing(given: HandOver) -> bool:
            return given.heir == "n2:b" and await hand_over(given)

        monkeypatch.setattr(second.store, "hand_over", refusing)
        await join(first, one, two)
        await failed(wire, one)
        assert second.pump.node.call(two) is not None
        second.say("BYE", "two", number=9, to_tag=tag)
        await until(lambda: second.said("two", 200, "BYE"), "it is carried on")

    async def test_there_are_not_more_at_once_than_there_may_be(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fetching, "FETCHES_MOST", 0)
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        two, _ = await second.talking("two")
        action = await join(first, one, two)
        assert await failed(wire, one) == ("overload", action)

    async def test_a_fault_of_ours_fails_the_join(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        two, _ = await second.talking("two")

        whereabouts = first.store.whereabouts

        async def fail(call: CallId) -> Whereabouts | None:
            if call == two:
                raise ValueError("not what it should be")
            return await whereabouts(call)

        monkeypatch.setattr(first.store, "whereabouts", fail)
        action = await join(first, one, two)
        assert await failed(wire, one) == ("unreachable", action)

    @pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"refused": 1}', b"\xff"])
    async def test_an_answer_that_is_not_understood_fails_the_join(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch, answer: bytes
    ) -> None:
        monkeypatch.setattr(fetching, "FETCH_S", 0.1)
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        two, _ = await second.talking("two")

        async def say(_: bytes) -> bytes:
            return answer

        monkeypatch.setattr(second.switchboard, "answer", say)
        action = await join(first, one, two)
        assert await failed(wire, one) == ("unreachable", action)


class TestOriginating:
    def wanted(self, conversation: ConversationId, key: str | None = None) -> Originate:
        return Originate(
            request=0,
            call=CallId("call_new"),
            application="desk",
            to=(Target("sip:bob@192.0.2.5"),),
            from_=None,
            timeout_s=30.0,
            max_duration_s=60.0,
            fork="parallel",
            on_redirect="follow",
            client_state="state",
            tags=("a", "b"),
            conversation=conversation,
            actions=(Hangup(),),
            claim=None if key is None else Claim(key, "print"),
        )

    async def test_it_is_made_where_its_conversation_is(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        said = await second.switchboard.originate(self.wanted(first.conversation(one)))
        assert isinstance(said, Originated)
        made = first.pump.node.call(said.call)
        assert made is not None
        assert made.conversation_id == first.conversation(one)
        assert (made.tags, made.client_state, made.max_duration_s) == (("a", "b"), "state", 60.0)
        assert second.pump.node.live == 0

    async def test_a_key_is_good_for_one_call_wherever_it_is_sent(self, wire: Wire) -> None:
        first, second, third = await three(wire)
        one, _ = await first.talking("one")
        wanted = self.wanted(first.conversation(one), key="once")
        assert isinstance(await second.switchboard.originate(wanted), Originated)
        again = await third.switchboard.originate(replace(wanted, call=CallId("call_two")))
        assert isinstance(again, OriginateRefused)
        assert again.remembered is not None
        assert (again.code, again.remembered.call) == ("key_reused", "call_new")
        assert [call.id for call in first.pump.node.calls() if call.direction == "outbound"] == ["call_new"]

    async def test_a_conversation_that_is_over_is_not_found(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        one, tag = await first.talking("one")
        conversation = first.conversation(one)
        first.say("BYE", "one", number=2, to_tag=tag)
        await until(lambda: wire.keyspace.final_record(one), "it has ended")
        for name in (conversation, ConversationId("conv_nobody")):
            said = await second.switchboard.originate(self.wanted(name))
            assert (type(said), getattr(said, "code", None)) == (OriginateRefused, "not_found")

    async def test_a_dead_node_s_conversation_is_claimed(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        conversation = first.conversation(one)
        await wire.kill(first)
        said = await second.switchboard.originate(self.wanted(conversation))
        assert isinstance(said, Originated)
        assert second.pump.node.call(said.call) is not None

    async def test_nobody_knows_what_became_of_it_where_the_wire_is_cut(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        one, _ = await first.talking("one")
        wire.cut.add("n1:a")
        with pytest.raises(TimeoutError):
            await second.switchboard.originate(self.wanted(first.conversation(one)))
        wire.keyspace._nodes.drop("n1")
        await second.membership.announce()
        with pytest.raises(StoreUnavailable):
            await second.switchboard.originate(self.wanted(first.conversation(one)))
