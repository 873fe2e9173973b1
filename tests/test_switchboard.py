"""Which node a message or a command goes to: real nodes over the memory store, and a wire between them that can be cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from bridge import switchboard
from bridge.calls.actions import Answer, Hangup
from bridge.calls.facts import CallId
from bridge.engine.commit import HandOver
from bridge.engine.effects import CommandAccepted, CommandRefused, PassOn, Yielded
from bridge.engine.inputs import Drain, Yield
from bridge.errors import StoreUnavailable
from bridge.sip.flow import Send
from bridge.store import Lease, Member
from bridge.switchboard import HEAR_AGAIN_S, WAITING_MOST
from tests.support.linked import PHONE, Linked, Wire
from tests.support.waiting import until


@pytest.fixture
async def wire(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    monkeypatch.setattr(switchboard, "ARRIVING_S", 0.01)
    wire = Wire()
    yield wire
    await wire.close()


async def three(wire: Wire) -> tuple[Linked, Linked, Linked]:
    nodes = [await wire.add(owner) for owner in ("n1:a", "n2:b", "n3:c")]
    await wire.announce()
    return nodes[0], nodes[1], nodes[2]


async def give_away(wire: Wire, giver: Linked, call: CallId, heir: Linked, *, told: bool = True) -> None:
    """A conversation is written over to another node, which may not have been told yet."""
    said = await giver.pump.ask(Yield(giver.pump.new_request(), giver.conversation(call)))
    assert isinstance(said, Yielded)
    given = HandOver(said.conversation, giver.owner, said.epoch, said.version, heir.owner, f"nonce-{heir.owner}")
    assert await giver.store.hand_over(given)
    if told:
        neighbour = next(each for each in giver.switchboard.ready() if each.owner == heir.owner)
        await giver.switchboard.hand(neighbour, said.conversation)


class TestMessages:
    async def test_one_goes_to_the_node_that_its_tag_names_and_the_answer_leaves_where_it_came(
        self, wire: Wire
    ) -> None:
        first, second, _ = await three(wire)
        _, tag = await first.talking("one")
        second.say("BYE", "one", number=2, to_tag=tag)
        assert second.said("one", 200, "BYE"), "without a look into the store"
        assert first.said("one", 200, "BYE") == []

    async def test_where_the_tag_s_node_has_it_no_more_the_store_says_who_has(self, wire: Wire) -> None:
        first, second, third = await three(wire)
        call, tag = await first.talking("one")
        await give_away(wire, first, call, second)
        third.say("BYE", "one", number=9, to_tag=tag)
        await until(lambda: third.said("one", 200, "BYE"), "it is answered")
        assert [owner for owner, data in wire.envelopes if data.startswith(b"BYE")] == ["n1:a", "n2:b"]

    async def test_a_dead_node_s_call_is_claimed_by_whoever_is_asked_for_it(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        call, tag = await first.talking("one")
        await wire.kill(first)
        second.say("INFO", "one", number=2, to_tag=tag)
        await until(lambda: second.said("one", 200, "INFO"), "it is answered")
        assert second.pump.node.call(call) is not None

    async def test_in_quiet_time_nothing_is_claimed_and_nothing_is_denied(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        call, tag = await first.talking("one")
        first.pump.close()
        del wire.nodes["n1:a"]
        wire.clock.time += 10.0  # nobody has spoken: it was the store
        await second.membership.announce()
        second.say("BYE", "one", number=2, to_tag=tag)
        wire.keyspace._nodes.drop("n1")
        await second.membership.announce()
        second.say("BYE", "one", number=3, to_tag=tag)
        await until(lambda: second.dropped["owner_unknown"], "nobody knows")
        assert second.sent == []
        assert second.pump.node.call(call) is None

    async def test_what_the_store_does_not_know_either_is_answered_here(self, wire: Wire) -> None:
        _, second, _ = await three(wire)
        second.say("CANCEL", "never")
        await until(lambda: second.said("never", 481, "CANCEL"), "there is no such call")

    async def test_without_a_store_it_is_dropped_and_looked_for_again_when_it_is_repeated(self, wire: Wire) -> None:
        _, second, _ = await three(wire)
        second.store.go_away()
        second.say("CANCEL", "never")
        await until(lambda: second.dropped["store_away"], "it is dropped")
        second.store.come_back()
        second.say("CANCEL", "never")
        await until(lambda: second.said("never", 481, "CANCEL"), "it is looked for again")

    async def test_a_fault_in_a_look_up_leaves_nothing_behind(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, second, _ = await three(wire)

        async def fail(_: CallId) -> None:
            raise ValueError("not what it should be")

        with monkeypatch.context() as patched:
            patched.setattr(second.store, "whereabouts", fail)
            second.say("CANCEL", "never")
            await until(lambda: not second.switchboard._looking and not second.switchboard._tasks, "it is over")
        second.say("CANCEL", "never")
        await until(lambda: second.said("never", 481, "CANCEL"), "it is looked for again")

    async def test_looking_is_bounded_by_call_and_in_all(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        _, second, _ = await three(wire)
        monkeypatch.setattr(switchboard, "LOOK_UPS_MOST", 2)
        board = second.switchboard
        for call in ("call_a", "call_b", "call_c"):
            for _ in range(WAITING_MOST + 1):
                board.pass_on(PassOn(CallId(call), "", b"CANCEL", PHONE))
        assert {call: len(waiting) for call, waiting in board._looking.items()} == {
            "call_a": WAITING_MOST,
            "call_b": WAITING_MOST,
        }
        assert second.dropped["switchboard_full"] == 2 + WAITING_MOST + 1

    async def test_a_flow_of_a_node_that_is_gone_is_left_by_our_own_socket(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        data = b"OPTIONS sip:a SIP/2.0\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n"
        first.switchboard.send_there(Send(PHONE._replace(node="n2:b"), data))
        assert [message["call-id"] for message in second.sent] == ["x"]
        first.switchboard.send_there(Send(PHONE._replace(node="n2:gone"), data))
        assert [message["call-id"] for message in first.sent] == ["x"]

    async def test_a_draining_node_passes_new_calls_on(self, wire: Wire) -> None:
        first, second, third = await three(wire)
        first.pump.give(Drain())
        first.membership.facts["draining"] = True
        await wire.announce()
        first.say("INVITE", "new")
        await until(lambda: first.said("new", 200), "it is answered, by the socket that it came to")
        assert first.pump.node.live == 0
        assert second.pump.node.live + third.pump.node.live == 1
        assert {each.owner for each in second.switchboard.ready()} == {"n3:c"}

    async def test_a_node_that_does_not_listen_yet_is_given_nothing(self, wire: Wire) -> None:
        first, *_ = await three(wire)
        starting = Linked("n4:d", wire)
        await starting.membership.announce()
        await wire.announce()
        assert "n4:d" not in {each.owner for each in first.switchboard.ready()}
        assert first.switchboard.is_leased("n4:d")
        await starting.membership.open()
        await wire.announce()
        assert "n4:d" in {each.owner for each in first.switchboard.ready()}

    async def test_who_is_not_known_is_asked_for_at_once(self, wire: Wire) -> None:
        """It has announced itself since we did, and comes to us before we do so again."""
        first, *_ = await three(wire)
        await wire.add("n4:d")
        assert not first.switchboard.is_leased("n4:d")
        assert not first.switchboard.is_leased("n9:nobody"), "which is asked for by then"
        await until(lambda: first.switchboard.neighbour("n4:d"), "it is known", within_s=HEAR_AGAIN_S)
        assert first.switchboard.is_leased("n4:d")

    async def test_facts_that_are_not_understood_make_no_neighbour(self, wire: Wire) -> None:
        first, *_ = await three(wire)
        facts = [b"", b"[]", b"null", b'{"cluster": 7}', b'{"cluster": ["h", "x"], "hint": "h", "nonce": "n"}', b"\xff"]
        members = tuple(Member(f"m{number}", "x", 1000, 3000, fact) for number, fact in enumerate(facts))
        first.switchboard.heard(Lease("n1:a", 1000, None, 0, members))
        assert first.switchboard.ready() == []


class TestHandingOver:
    async def test_what_comes_for_it_meanwhile_is_heard_by_its_next_owner(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        call, tag = await first.talking("one")
        first.switchboard.hold([call])
        await give_away(wire, first, call, second)
        first.say("BYE", "one", number=9, to_tag=tag)
        assert first.said("one", 200, "BYE") == []
        first.switchboard.let_through([call])
        await until(lambda: first.said("one", 200, "BYE"), "it is answered by the socket that it came to")
        assert second.pump.node.live == 0

    async def test_an_heir_that_has_not_been_told_yet_denies_nothing(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        call, tag = await first.talking("one")
        conversation = first.conversation(call)
        await give_away(wire, first, call, second, told=False)
        second.say("BYE", "one", number=9, to_tag=tag)
        await until(lambda: second.switchboard._looking, "it is looked for")
        neighbour = next(each for each in first.switchboard.ready() if each.owner == "n2:b")
        await first.switchboard.hand(neighbour, conversation)
        await until(lambda: second.said("one", 200, "BYE"), "it is answered")
        assert second.said("one", 481, "BYE") == []

    async def test_what_never_comes_is_dropped_and_not_denied(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(switchboard, "ARRIVING_MOST", 2)
        first, second, _ = await three(wire)
        call, tag = await first.talking("one")
        await give_away(wire, first, call, second, told=False)
        second.say("BYE", "one", number=9, to_tag=tag)
        await until(lambda: second.dropped["owner_unknown"], "SIP repeats it")
        assert second.sent == []
        with pytest.raises(StoreUnavailable):
            await second.switchboard.command(call, (Hangup(),), listed=False)

    async def test_what_is_held_is_bounded_and_counted(self, wire: Wire) -> None:
        first, *_ = await three(wire)
        call = CallId("call_a")
        first.switchboard.hold([call])
        for _ in range(WAITING_MOST + 3):
            first.switchboard.pass_on(PassOn(call, "", b"", PHONE))
        assert first.dropped["switchboard_full"] == 3

    async def test_a_command_waits_until_it_is_said_where_the_call_is(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        call, _ = await first.talking("one")
        first.switchboard.hold([call])
        asking = asyncio.create_task(first.switchboard.command(call, (Hangup(),), listed=False))
        await give_away(wire, first, call, second)
        first.switchboard.let_through([call])
        assert isinstance(await asking, CommandAccepted)
        assert [owner for owner, _ in wire.asked] == ["n2:b", "n2:b"]


class TestCommands:
    async def test_it_is_run_where_the_call_is(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        call, _ = await first.talking("one")
        said = await second.switchboard.command(call, (Hangup(),), listed=False)
        assert isinstance(said, CommandAccepted)
        await until(lambda: [each for each in first.sent if each.method == "BYE"], "it is hung up")

    async def test_what_the_node_refuses_is_refused(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        call, _ = await first.talking("one")
        said = await second.switchboard.command(call, (Answer(),), listed=False)
        assert (type(said), getattr(said, "code", None)) == (CommandRefused, "wrong_state")

    async def test_one_that_nobody_has_is_not_found(self, wire: Wire) -> None:
        _, second, _ = await three(wire)
        said = await second.switchboard.command(CallId("call_nobody"), (Hangup(),), listed=False)
        assert (type(said), getattr(said, "code", None)) == (CommandRefused, "not_found")

    async def test_nobody_knows_what_became_of_it_where_the_wire_is_cut(self, wire: Wire) -> None:
        first, second, _ = await three(wire)
        call, _ = await first.talking("one")
        wire.cut.add("n1:a")
        with pytest.raises(TimeoutError):
            await second.switchboard.command(call, (Hangup(),), listed=False)

    @pytest.mark.parametrize(
        "answer", [b"", b"[]", b"{}", b'{"refused": 1}', b'{"refused": ["new", "x"]}', b'{"accepted": 1}', b"\xff"]
    )
    async def test_an_answer_that_is_not_understood_tells_nothing(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch, answer: bytes
    ) -> None:
        first, second, _ = await three(wire)
        call, _ = await first.talking("one")

        async def say(_: bytes) -> bytes:
            return answer

        monkeypatch.setattr(first.switchboard, "answer", say)
        with pytest.raises(TimeoutError):
            await second.switchboard.command(call, (Hangup(),), listed=False)

    @pytest.mark.parametrize(
        "question",
        [
            b"",
            b"[]",
            b"7",
            b"{}",
            b"\xff",
            b'{"v": 2, "give": "conv_a"}',
            b'{"take": "conv_a"}',
            b'{"call": "call_a", "actions": [{"action": "newer"}], "listed": false}',
            b'{"call": "call_a", "actions": 7, "listed": false}',
        ],
    )
    async def test_a_question_that_is_not_understood_is_refused(self, wire: Wire, question: bytes) -> None:
        first, *_ = await three(wire)
        said = json.loads(await first.switchboard.answer(question))
        assert said["refused"][0] == "wrong_state"
