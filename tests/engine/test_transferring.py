"""We transfer a caller (RFC 3515, RFC 5589): REFER and its answers, the NOTIFYs, attended by Replaces, and who carries it on."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Credentials, Dial, Mute, Pause, Target, Transfer
from bridge.calls.destinations import Destinations
from bridge.engine.effects import CommandRefused
from bridge.sip.message import Request
from tests.engine.callee import Callee
from tests.engine.test_joining import joined, reply, two_answered
from tests.engine.test_taking_over import ANSWERED, survivor
from tests.engine.world import ANSWER, World, answered, settings

CAROL = "sip:carol@192.0.2.4"


def refer(world: World) -> Request:
    return world.requests("REFER")[-1]


def referred() -> World:
    """A caller that has taken our REFER."""
    world = answered()
    world.ask(Transfer(to=CAROL))
    world.packet(reply(refer(world), 202))
    return world


def codes(world: World) -> list[tuple[str, int]]:
    """What has been told of the transfer."""
    return [(each["type"], each["data"]["code"]) for each in world.bodies if each["type"].startswith("transfer.")]


def test_a_blind_transfer_ends_our_leg_once_the_far_end_has_its_target() -> None:
    world = answered()
    (action,) = world.ask(Transfer(to=CAROL))
    asked = refer(world)
    assert asked.headers.get("Refer-To") == f"<{CAROL}>"
    assert asked.headers.get("Referred-By") == "<sip:100@192.0.2.10>"
    assert asked.headers.get("Contact") == "<sip:192.0.2.10:5060>"
    world.packet(reply(asked, 202))
    world.notify("100 Trying", sequence=2)
    world.notify("180 Ringing", sequence=3)
    assert world.requests("BYE") == []
    world.notify("200 OK", sequence=4, over=True)
    assert [each.status for each in world.responses(method="NOTIFY")] == [200, 200, 200]
    assert codes(world) == [
        ("transfer.progress", 202),
        ("transfer.progress", 100),
        ("transfer.progress", 180),
        ("transfer.completed", 200),
    ]
    told = [each["data"] for each in world.bodies if each["type"].startswith("transfer.")]
    assert {each["caused_by"] for each in told} == {action}
    assert {each["to"] for each in told} == {CAROL}
    assert len(world.requests("BYE")) == 1
    assert (world.ended["by"], world.ended["reason"]) == ("local", "transferred")
    world.advance(64.0)
    assert world.leftovers() == {}


def test_refer_leaves_only_once_it_is_stored() -> None:
    world = answered()
    world.committing = False
    world.ask(Transfer(to=CAROL))
    assert world.requests("REFER") == []
    world.commit_all()
    assert len(world.requests("REFER")) == 1


def test_the_200_to_a_notify_waits_for_the_store() -> None:
    world = referred()
    world.committing = False
    world.notify("180 Ringing")
    assert world.responses(method="NOTIFY") == []
    world.notify("200 OK", sequence=3, over=True)
    assert world.responses(method="NOTIFY")[-1].status == 500, "one at a time"
    world.commit_all()
    assert world.responses(200, method="NOTIFY")[-1].cseq.number == 2


@pytest.mark.parametrize(("code", "over"), [(403, False), (603, False), (405, False), (481, True)])
def test_a_refused_refer_leaves_the_call_as_it_is(code: int, over: bool) -> None:
    world = answered()
    (action,) = world.ask(Transfer(to=CAROL))
    world.packet(reply(refer(world), code))
    failed = world.told("transfer.failed")
    assert (failed["code"], failed["caused_by"]) == (code, action)
    assert ("call.ended" in world.types) is over, "only where there is no dialog any more"


def test_a_target_that_is_busy_leaves_the_call_as_it_is_and_the_list_goes_on() -> None:
    world = answered()
    world.ask(Transfer(to=CAROL), Mute(), listed=True)
    world.packet(reply(refer(world), 202))
    assert "action.completed" not in world.types
    world.notify("486 Busy Here", over=True)
    failed = world.told("transfer.failed")
    assert (failed["code"], failed["reason"]) == (486, "Busy Here")
    assert world.types[-1] == "action.completed"
    world.ask(Transfer(to=CAROL))
    assert len(world.requests("REFER")) == 2, "and may be tried again"


@pytest.mark.parametrize("answer", [None, 202])
def test_who_is_told_nothing_takes_it_for_a_failure(answer: int | None) -> None:
    world = answered()
    world.ask(Transfer(to=CAROL))
    if answer is not None:
        world.packet(reply(refer(world), answer))
    world.advance(33.0)
    assert world.told("transfer.failed")["code"] == 408
    assert "call.ended" not in world.types
    world.notify("200 OK", over=True)
    assert world.responses(method="NOTIFY")[-1].status == 481, "nobody waits for that any more"


def test_a_target_that_rings_for_ever_is_given_up() -> None:
    world = referred()
    world.notify("180 Ringing")
    world.advance(179.0)
    assert "transfer.failed" not in world.types
    world.advance(2.0)
    assert world.told("transfer.failed")["code"] == 408


def test_a_subscription_that_ends_without_an_outcome_has_failed() -> None:
    world = referred()
    world.notify("180 Ringing", over=True)
    assert world.told("transfer.failed")["reason"] == "No Outcome"


def test_a_notify_may_overtake_the_202() -> None:
    world = answered()
    world.ask(Transfer(to=CAROL))
    world.notify("100 Trying")
    world.packet(reply(refer(world), 202))
    world.notify("200 OK", sequence=3, over=True)
    assert codes(world)[-1] == ("transfer.completed", 200)


def test_the_same_news_again_tells_nothing() -> None:
    world = referred()
    for number in range(20):
        world.notify("180 Ringing" if number % 2 else "183 Session Progress", sequence=2 + number)
    assert codes(world) == [("transfer.progress", 202), ("transfer.progress", 183)]


@pytest.mark.parametrize(
    ("said", "event", "kind", "status"),
    [
        ("200 OK", "presence", "message/sipfrag", 489),
        ("200 OK", "refer;id=77", "message/sipfrag", 481),
        ("200 OK", "refer", "application/sdp", 415),
        ("dancing", "refer", "message/sipfrag", 400),
        ("", "refer", "message/sipfrag", 400),
    ],
)
def test_a_notify_of_something_else_changes_nothing(said: str, event: str, kind: str, status: int) -> None:
    world = referred()
    world.notify(said, event=event, kind=kind)
    assert world.responses(method="NOTIFY")[-1].status == status
    assert codes(world) == [("transfer.progress", 202)]


def test_a_notify_names_the_refer_by_its_number() -> None:
    world = referred()
    world.notify("200 OK", event=f"refer;id={refer(world).cseq.number}", over=True)
    assert codes(world)[-1] == ("transfer.completed", 200)


def test_a_notify_without_a_transfer_gets_481() -> None:
    world = answered()
    world.notify("200 OK", over=True)
    assert world.responses(method="NOTIFY")[-1].status == 481
    assert world.types == ["call.incoming", "call.answered"]


def test_one_transfer_at_a_time() -> None:
    world = referred()
    refused = world.command(Transfer(to=CAROL))
    assert isinstance(refused, CommandRefused)
    assert refused.code == "wrong_state"


def test_a_new_list_does_not_take_back_what_has_been_asked() -> None:
    world = referred()
    world.ask(Pause(seconds=600))
    assert "action.canceled" not in world.types
    world.notify("200 OK", over=True)
    assert world.ended["reason"] == "transferred"


def test_a_far_end_that_hangs_up_meanwhile_has_the_transfer_canceled() -> None:
    world = answered()
    (action,) = world.ask(Transfer(to=CAROL))
    world.bye()
    assert world.told("action.canceled")["action_id"] == action
    assert world.ended["reason"] == "hangup"
    world.advance(64.0)
    assert world.leftovers() == {}


def test_a_transfer_is_no_way_round_the_policy() -> None:
    world = World(settings(plan={"destinations": Destinations(("sip:*@192.0.2.9",))}))
    world.reply = (ANSWER,)
    world.invite()
    world.ack()
    world.ask(Transfer(to=CAROL))
    assert world.told("transfer.failed")["code"] == 403
    assert world.requests("REFER") == []


def test_a_party_that_asks_for_credentials_gets_them() -> None:
    world = World()
    bob = Callee(world)
    world.reply = (Dial(to=(Target(bob.uri, Credentials("bridge", "secret", "k.1.736563726574")),)),)
    world.invite()
    bob.answer(200)
    world.ack()
    world.command(Transfer(to=CAROL), call=next(call.id for call in world.node.calls() if call.search is not None))
    (first,) = bob.requests("REFER")
    challenge = 'WWW-Authenticate: Digest realm="x", nonce="n", algorithm=MD5, qop="auth"\r\n'
    world.packet(reply(first, 401).replace("Contact:", f"{challenge}Contact:"), bob_flow(bob))
    second = bob.requests("REFER")[-1]
    assert second.cseq.number == first.cseq.number + 1
    assert 'username="bridge"' in (second.headers.get("Authorization") or "")


def bob_flow(bob: Callee):
    assert bob.flow is not None
    return bob.flow


# Attended


def test_an_attended_transfer_names_the_other_dialog_as_its_far_end_sees_it() -> None:
    world, one, other = two_answered()
    world.command(Transfer(replaces_call_id=other), call=one)
    target = refer(world).headers.get("Refer-To")
    ours = world.tag("c2")
    assert target == f"<sip:caller@192.0.2.1:5062?Replaces=c2%40192.0.2.1%3Bto-tag%3Dfrom-c2%3Bfrom-tag%3D{ours}>"


def test_an_attended_transfer_may_name_its_target_itself() -> None:
    world, one, other = two_answered()
    world.command(Transfer(to=CAROL, replaces_call_id=other), call=one)
    assert (refer(world).headers.get("Refer-To") or "").startswith(f"<{CAROL}?Replaces=c2%40")


@pytest.mark.parametrize(("which", "code"), [("nobody", "not_found"), ("itself", "invalid"), ("ended", "ended")])
def test_an_attended_transfer_needs_another_call_that_is_answered(which: str, code: str) -> None:
    world, one, other = two_answered()
    if which == "ended":
        world.accepting = False
        world.bye("c2")
    named = {"nobody": "call_" + "z" * 24, "itself": one, "ended": other}[which]
    world.command(Transfer(replaces_call_id=named), call=one)
    assert world.requests("REFER") == []
    stored = [body["data"] for _, body in world.stored_events(one) if body["type"] == "action.failed"]
    assert [each["code"] for each in stored] == [code]


def test_whoever_was_joined_stays_when_the_caller_is_transferred() -> None:
    world, bob, party = joined()
    world.ask(Transfer(to=CAROL))
    world.notify("200 OK", over=True)
    assert bob.methods[-1] == "BYE", "the dial said that both end together"
    assert world.told("call.ended")["call_id"] in (world.call_id, party)


# Another node carries it on


def test_an_heir_hears_the_end_of_a_transfer() -> None:
    heir = survivor(referred())
    heir.packet(reply(heir.requests("INVITE")[-1], 200, ANSWERED))
    heir.notify("200 OK", event=f"refer;id={refer(heir).cseq.number}", over=True)
    assert len(heir.requests("REFER")) == 1, "nobody is asked twice"
    assert codes(heir)[-1] == ("transfer.completed", 200)
    assert heir.ended["reason"] == "transferred"


def test_an_heir_hangs_up_on_whoever_has_been_transferred() -> None:
    """The node dies with the outcome in the store, and before it has said so to anybody."""
    world = referred()
    world.committing = False
    world.notify("200 OK", over=True)
    assert world.responses(method="NOTIFY") == []
    assert world.requests("BYE") == []
    heir = world.restart(applied=1)
    assert len(heir.requests("BYE")) == 1
    assert heir.ended["reason"] == "transferred"
    assert codes(heir)[-1] == ("transfer.completed", 200)


def test_the_notify_is_answered_before_the_bye() -> None:
    world = referred()
    world.notify("200 OK", over=True)
    told = [message for _, message in world.sent][-2:]
    assert [each.method if isinstance(each, Request) else each.cseq.method for each in told] == ["NOTIFY", "BYE"]


def test_an_heir_gives_up_when_the_dead_node_would_have() -> None:
    heir = survivor(referred())
    heir.packet(reply(heir.requests("INVITE")[-1], 200, ANSWERED))
    heir.advance(33.0)
    assert heir.told("transfer.failed")["code"] == 408
    assert "call.ended" not in heir.types


def test_a_restarted_process_does_not_ask_again() -> None:
    heir = referred().restart()
    heir.notify("180 Ringing")
    heir.notify("200 OK", sequence=3, over=True)
    assert len(heir.requests("REFER")) == 1
    assert heir.ended["reason"] == "transferred"
