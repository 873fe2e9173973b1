"""The redirect server (§8.3): a caller who is sent elsewhere, and what becomes of that in trouble."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Answer, Dial, Park, Pause, Redirect, Reject, Target
from bridge.calls.facts import Contact
from bridge.engine.effects import CommandRefused
from tests.engine.callee import Callee
from tests.engine.test_dialing import party_of, told
from tests.engine.test_sips import PHONE, said
from tests.engine.test_sips import world as secure
from tests.engine.world import World, answered, request, settings

BOB = Contact("sip:bob@192.0.2.2;transport=tcp", 0.5)
CAROL = Contact("sip:carol@192.0.2.3")
ELSEWHERE = Redirect(contacts=(BOB, CAROL), headers={"Diversion": ("<sip:desk@example.com>",)})
TOLD = [{"uri": BOB.uri, "q": 0.5}, {"uri": CAROL.uri, "q": None}]
ENDED = ["call.incoming", "call.redirected", "call.ended"]


def test_the_caller_is_told_where_else_to_look() -> None:
    world = World()
    world.reply = (ELSEWHERE,)
    world.invite()
    said = world.last(302)
    assert said.headers.values("Contact") == ["<sip:bob@192.0.2.2;transport=tcp>;q=0.5", "<sip:carol@192.0.2.3>"]
    assert said.headers.get("Diversion") == "<sip:desk@example.com>"
    assert said.to_tag
    assert (world.statuses, said.reason, world.types) == ([100, 302], "Moved Temporarily", ENDED)
    redirected = world.told("call.redirected")
    assert (redirected["code"], redirected["contacts"]) == (302, TOLD)
    assert (world.ended["by"], world.ended["reason"], world.ended["sip_code"]) == ("local", "redirected", 302)
    assert redirected["caused_by"] == world.told("call.ended")["caused_by"] is not None
    assert world.ports == {}


@pytest.mark.parametrize(
    ("code", "phrase"),
    [(300, "Multiple Choices"), (301, "Moved Permanently"), (302, "Moved Temporarily"), (305, "Use Proxy")],
)
def test_every_code_has_the_phrase_of_the_rfc(code: int, phrase: str) -> None:
    world = World()
    world.reply = (Redirect(contacts=(CAROL,), code=code),)
    world.invite()
    assert world.last(code).reason == phrase


def test_an_alternative_service_is_told_in_words() -> None:
    world = World()
    world.reply = (Redirect(contacts=(), code=380, reason="Write A Letter"),)
    world.invite()
    assert (world.last(380).reason, world.last(380).headers.values("Contact")) == ("Write A Letter", [])
    assert world.told("call.redirected")["contacts"] == []


@pytest.mark.parametrize(
    ("q", "written"), [(0.0, "0"), (1.0, "1"), (0.5, "0.5"), (0.125, "0.125"), (0.1, "0.1"), (0.001, "0.001")]
)
def test_a_q_is_written_as_it_was_given(q: float, written: str) -> None:
    world = World()
    world.reply = (Redirect(contacts=(CAROL._replace(q=q),)),)
    world.invite()
    assert world.last(302).headers.get("Contact") == f"<{CAROL.uri}>;q={written}"


def test_by_rest() -> None:
    world = World()
    world.reply = (Park(),)
    world.invite()
    world.command(ELSEWHERE)
    assert world.statuses == [100, 180, 302]
    assert world.types == ["call.incoming", "call.redirected", "call.ended"]
    assert world.ended["reason"] == "redirected"


def test_the_fallback_may_redirect() -> None:
    """As a `reject` there: what the call ended for is that no decision came."""
    world = World(settings(plan={"fallback": (ELSEWHERE,)}))
    world.down = True
    world.invite()
    assert world.statuses[-1] == 302
    assert (world.ended["by"], world.ended["reason"]) == ("policy", "application_failed")
    world.down = False
    world.advance(60.0)
    assert "call.redirected" in world.types


def test_a_fallback_that_comes_after_the_answer_hangs_up() -> None:
    world = World(settings(plan={"fallback": (ELSEWHERE,)}))
    world.reply = (Answer(), Park(timeout_s=5))
    world.invite()
    world.ack()
    world.advance(6.0)
    assert [each.method for each in world.requests("BYE")] == ["BYE"]
    assert (world.ended["by"], world.ended["reason"]) == ("policy", "park_timeout")
    assert "call.redirected" not in world.types


def test_what_is_answered_cannot_be_redirected() -> None:
    world = answered()
    answer = world.command(ELSEWHERE)
    assert isinstance(answer, CommandRefused)
    assert (answer.code, world.call.state) == ("wrong_state", "answered")


def test_it_is_repeated_until_its_ack_comes() -> None:
    world = World()
    world.reply = (ELSEWHERE,)
    world.invite()
    world.advance(8.0)
    assert world.times(302) == [0.0, 0.5, 1.5, 3.5, 7.5]
    world.packet(request("ACK", branch="z9hG4bK-c1-1-INVITE", to_tag=world.tag()))
    world.advance(60.0)
    assert len(world.responses(302)) == 5
    assert world.leftovers() == {}


def test_a_cancel_that_comes_while_it_waits_for_its_write_is_too_late() -> None:
    world = World()
    world.invite()
    world.committing = False
    world.decide(ELSEWHERE)
    assert world.statuses == [100], "it is stored before it is said"
    world.cancel()
    world.commit_all()
    assert world.statuses == [100, 302]
    assert len(world.responses(200, "CANCEL")) == 1
    assert world.ended["reason"] == "redirected"


def test_a_cancel_that_comes_first_ends_the_call() -> None:
    world = World()
    world.reply = (Pause(seconds=1), ELSEWHERE)
    world.invite()
    world.cancel()
    world.advance(60.0)
    assert set(world.statuses) == {100, 487}
    told_of = [(body["type"], body["data"].get("action")) for body in world.bodies]
    assert ("action.canceled", "redirect") in told_of
    assert "call.redirected" not in world.types


def test_whoever_is_dialed_meanwhile_is_given_up() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri),)),)
    world.invite()
    bob.answer(180)
    world.command(ELSEWHERE)
    assert bob.methods == ["INVITE", "CANCEL"]
    assert world.statuses[-1] == 302
    bob.answer(487)
    assert told(world, party_of(world))[-1] == "call.ended"
    world.advance(60.0)
    assert world.leftovers() == {}


def test_another_process_carries_it_out() -> None:
    """A list that has not come to its redirect when the process dies is gone on with by its heir."""
    world = World()
    world.reply = (Pause(seconds=10), ELSEWHERE)
    world.invite()
    heir = world.restart()
    heir.advance(11.0)
    said = heir.last(302)
    assert said.headers.values("Contact") == ["<sip:bob@192.0.2.2;transport=tcp>;q=0.5", "<sip:carol@192.0.2.3>"]
    assert said.headers.get("Diversion") == "<sip:desk@example.com>"
    assert [body["type"] for _, body in heir.stored_events()] == ENDED


@pytest.mark.parametrize(
    ("others", "status", "reason"),
    [
        ((), 302, "redirected"),
        ((Contact("sip:bob@192.0.2.2"),), 486, "application_failed"),
        ((Contact("tel:+4930123456"),), 486, "application_failed"),
    ],
)
def test_a_caller_who_wants_tls_on_each_hop_is_not_sent_where_there_is_none(
    others: tuple[Contact, ...], status: int, reason: str
) -> None:
    """RFC 5630 §5.4."""
    world = secure(plan={"fallback": (Reject(code=486),)})
    world.reply = (Redirect(contacts=(Contact("sips:bob@192.0.2.2"), *others)),)
    world.packet(said("INVITE"), PHONE)
    assert world.statuses == [100, status]
    assert world.ended["reason"] == reason


def test_nor_is_one_by_a_plan_that_says_so() -> None:
    world = secure(plan={"fallback": (ELSEWHERE,)})
    world.down = True
    world.packet(said("INVITE"), PHONE)
    assert world.statuses == [100, 480]
