"""Provisional responses that arrive for certain (RFC 3262): to callers who require it, and from those whom we call."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Dial, Hangup, Park, Reject, Ring, Target
from bridge.sip.flow import Flow
from bridge.sip.message import Response
from tests.engine.callee import Callee
from tests.engine.test_joining import reply
from tests.engine.test_originating import originate
from tests.engine.test_taking_over import survivor
from tests.engine.world import ANSWER, OFFER, World, request, sdp, settings

REQUIRED = "Require: 100rel\r\n"
SUPPORTED = "Supported: 100rel\r\n"


def called(*actions: object, extra: str = REQUIRED, **plan: object) -> World:
    world = World(settings(plan=plan))
    world.reply = actions  # type: ignore[assignment]
    world.invite(extra=extra)
    return world


def provisionals(world: World) -> list[Response]:
    return [each for each in world.responses(method="INVITE") if 100 < each.status < 200]


def prack(world: World, said: Response | None = None, *, rack: str | None = None, sequence: int = 2) -> int:
    """The caller's PRACK, and how it is answered."""
    said = said or provisionals(world)[-1]
    named = rack or f"{said.headers.get('RSeq')} 1 INVITE"
    world.packet(request("PRACK", sequence=sequence, to_tag=said.to_tag, extra=f"RAck: {named}\r\n"))
    return world.responses(method="PRACK")[-1].status


def test_ringing_is_repeated_until_its_prack() -> None:
    world = called(Ring(), Park())
    (said,) = provisionals(world)
    assert (said.status, said.headers.get("Require")) == (180, "100rel")
    assert int(said.headers.get("RSeq") or 0) > 0
    sent = len(world.sent)
    world.advance(0.6)
    world.advance(1.1)
    assert [each[1].encode() for each in world.sent[sent:]] == [said.encode(), said.encode()]
    assert prack(world) == 200
    sent = len(world.sent)
    world.advance(10.0)
    assert len(world.sent) == sent


def test_it_waits_for_the_store() -> None:
    world = World(settings())
    world.reply = (Ring(),)
    world.committing = False
    world.invite(extra=REQUIRED)
    assert provisionals(world) == []
    world.commit_all()
    world.commit_all()
    assert len(provisionals(world)) == 1


def test_nobody_acknowledges() -> None:
    world = called(Ring(), Park())
    world.advance(33.0)
    assert world.responses(504)
    assert (world.ended["by"], world.ended["reason"], world.ended["sip_code"]) == ("network", "ack_timeout", 504)
    world.packet(request("ACK", to_tag=world.responses(504)[0].to_tag))
    world.advance(64.0)
    assert world.leftovers() == {}


@pytest.mark.parametrize("rack", ["1 1 INVITE", "nonsense", "1 2 INVITE"])
def test_a_prack_of_something_else_is_refused_and_changes_nothing(rack: str) -> None:
    world = called(Ring(), Park())
    assert prack(world, rack=rack) == 481
    assert prack(world, sequence=3) == 200
    assert prack(world, sequence=4) == 481, "once only"


def test_an_answer_does_not_wait_for_the_prack_of_ringing() -> None:
    world = called(Ring(), ANSWER)
    assert world.responses(200)
    sent = len(provisionals(world))
    world.advance(0.6)
    assert len(provisionals(world)) == sent
    assert prack(world) == 481
    world.packet(request("ACK", to_tag=world.responses(200)[0].to_tag))
    assert world.types[-1] == "call.answered"


def test_a_refusal_ends_it() -> None:
    world = called(Ring(), Reject(code=486))
    assert world.responses(486)
    world.packet(request("ACK", to_tag=world.responses(486)[0].to_tag))
    world.advance(64.0)
    assert world.leftovers() == {}


def early_media(extra: str = REQUIRED, **plan: object) -> tuple[World, Callee]:
    """A caller who hears the party that was dialed before it answers."""
    world = World(settings(plan=plan))
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)),)
    world.invite(extra=extra)
    bob.answer(183, offer=sdp(5000, address=bob.host, formats="0 101"))
    return world, bob


def test_an_answer_waits_for_the_prack_of_early_media() -> None:
    world, bob = early_media()
    (said,) = provisionals(world)
    assert (said.status, b"m=audio" in said.body) == (183, True)
    bob.answer(200)
    assert world.responses(200) == []
    assert prack(world) == 200
    assert [each.body for each in world.responses(200, method="INVITE")] == [said.body]
    world.ack()
    assert world.types.count("call.joined") == 2


def test_one_is_said_at_a_time() -> None:
    world, bob = early_media()
    bob.answer(180)
    assert [each.status for each in provisionals(world)] == [183]
    assert prack(world) == 200
    assert [each.status for each in provisionals(world)] == [183, 180]
    first, second = provisionals(world)
    assert int(second.headers.get("RSeq") or 0) == int(first.headers.get("RSeq") or 0) + 1
    assert prack(world, sequence=3) == 200


def test_who_only_supports_it_gets_it_where_that_is_wanted() -> None:
    assert provisionals(called(Ring(), Park(), extra=SUPPORTED))[0].headers.get("RSeq") is None
    assert provisionals(called(Ring(), Park(), extra=SUPPORTED, reliable_if_supported=True))[0].headers.get("RSeq")
    assert provisionals(called(Ring(), Park(), extra="", reliable_if_supported=True))[0].headers.get("RSeq") is None


def test_who_wants_our_offer_gets_it_by_the_200() -> None:
    """A reliable response would have to bring it (RFC 3262 §5)."""
    world = World(settings())
    world.reply = (Ring(), ANSWER)
    world.invite(extra=REQUIRED, sdp=None)
    assert provisionals(world) == []
    assert b"m=audio" in world.responses(200)[0].body


def test_a_prack_with_an_offer_is_acknowledged_and_its_offer_refused() -> None:
    world = called(Ring(), Park())
    said = provisionals(world)[-1]
    rack = f"RAck: {said.headers.get('RSeq')} 1 INVITE\r\n"
    world.packet(request("PRACK", sequence=2, to_tag=said.to_tag, extra=rack, sdp=OFFER))
    assert world.responses(method="PRACK")[-1].status == 488
    assert prack(world, sequence=3) == 481


def test_whoever_carries_it_on_repeats_it_and_takes_the_prack() -> None:
    world, bob = early_media()
    (said,) = provisionals(world)
    heir = survivor(world, shared=True)
    repeated = provisionals(heir)[-1]
    assert repeated.headers.get("RSeq") == said.headers.get("RSeq")
    assert prack(heir, said) == 200
    assert bob.methods[0] == "INVITE"


class TestCalling:
    RELIABLE = "Require: 100rel\r\nRSeq: {}\r\n"

    def calling(self) -> tuple[World, Callee]:
        world = World(settings())
        bob = Callee(world)
        originate(world, Target(bob.uri))
        return world, bob

    def test_we_say_that_we_can(self) -> None:
        _, bob = self.calling()
        assert bob.invite.headers.get("Supported") == "100rel, timer"
        assert "PRACK" in (bob.invite.headers.get("Allow") or "")

    def test_each_is_acknowledged_once_and_in_order(self) -> None:
        world, bob = self.calling()
        bob.answer(180, extra=self.RELIABLE.format(7))
        bob.answer(180, extra=self.RELIABLE.format(7))
        (first,) = bob.requests("PRACK")
        assert first.headers.get("RAck") == f"7 {bob.invite.cseq.number} INVITE"
        assert first.cseq.number == bob.invite.cseq.number + 1
        assert first.to_tag == "b1"
        bob.answer(183, extra=self.RELIABLE.format(9))
        assert len(bob.requests("PRACK")) == 1, "one before it is missing"
        bob.answer(183, extra=self.RELIABLE.format(8))
        assert [each.headers.get("RAck") for each in bob.requests("PRACK")][1:] == [
            f"8 {bob.invite.cseq.number} INVITE"
        ]
        assert world.types == ["call.initiated", "call.ringing"]

    @pytest.mark.parametrize("status", [200, 401, 481])
    def test_what_is_said_to_a_prack_changes_nothing(self, status: int) -> None:
        world, bob = self.calling()
        bob.answer(180, extra=self.RELIABLE.format(7))
        world.packet(reply(bob.requests("PRACK")[0], status), Flow("udp", "udp:5060", bob.host, 5060))
        assert bob.methods == ["INVITE", "PRACK"]
        bob.answer(200)
        assert bob.methods == ["INVITE", "PRACK", "ACK"]

    def test_what_comes_next_in_the_dialog_counts_on(self) -> None:
        world, bob = self.calling()
        bob.answer(180, extra=self.RELIABLE.format(7))
        bob.answer(183, extra=self.RELIABLE.format(8))
        bob.answer(200)
        world.ask(Hangup())
        assert [(each.method, each.cseq.number) for each in bob.got if each.method in ("ACK", "BYE")] == [
            ("ACK", bob.invite.cseq.number),
            ("BYE", bob.invite.cseq.number + 3),
        ]

    def test_a_prack_that_nobody_answers_harms_nothing(self) -> None:
        world, bob = self.calling()
        bob.answer(180, extra=self.RELIABLE.format(7))
        world.advance(33.0)
        bob.answer(200)
        assert world.types[-1] == "call.answered"
        world.ask(Hangup())
        world.advance(64.0)
        assert world.leftovers() == {}

    def test_each_dialog_of_a_fork_counts_for_itself(self) -> None:
        _, bob = self.calling()
        bob.answer(180, extra=self.RELIABLE.format(7), tag="one")
        bob.answer(180, extra=self.RELIABLE.format(3), tag="two")
        assert [(each.to_tag, (each.headers.get("RAck") or "").split()[0]) for each in bob.requests("PRACK")] == [
            ("one", "7"),
            ("two", "3"),
        ]

    def test_whoever_carries_it_on_knows_what_has_been_acknowledged(self) -> None:
        world, bob = self.calling()
        bob.answer(180, extra=self.RELIABLE.format(7))
        survivor(world, shared=True)
        bob.answer(180, extra=self.RELIABLE.format(7))
        assert len(bob.requests("PRACK")) == 1
        bob.answer(183, extra=self.RELIABLE.format(8))
        assert [each.cseq.number for each in bob.requests("PRACK")] == [
            bob.invite.cseq.number + 1,
            bob.invite.cseq.number + 2,
        ]
