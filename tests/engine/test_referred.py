"""A phone transfers its partner (RFC 3515, RFC 5589, RFC 4488): who decides, what it is told, who hears whom, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bridge.calls.actions import Credentials, Dial, Join, Park, Reject, Target
from bridge.calls.destinations import Destinations
from bridge.calls.facts import CallId
from bridge.calls.referral import AcceptTransfer, RejectTransfer
from bridge.calls.referred import TRANSFERS_MOST
from bridge.engine.effects import PassOn
from bridge.engine.inputs import InvalidReply, Returned, StoreAway
from bridge.sip.message import Request
from tests.engine.callee import Callee
from tests.engine.test_dialing import told
from tests.engine.test_joining import reply, rule
from tests.engine.world import ANSWER, World, answered, request, sdp, settings

CAROL = "sip:bob@192.0.2.4:5060"
ACCEPT = AcceptTransfer()


def opted_in(**changes: Any) -> World:
    config = settings(**changes)
    return World(replace(config, applications=(replace(config.applications[0], transfers=True),)))


def joined(world: World | None = None, *, number: int = 2) -> tuple[World, Callee, CallId]:
    """A caller and a party that hear each other, and an application that has not made up its mind about anything else."""
    world = world or opted_in()
    bob = Callee(world, number)
    world.reply = (Dial(to=(Target(bob.uri),)),)
    world.invite()
    bob.answer(200)
    world.ack()
    world.reply = None
    (party,) = [call for call in world.stored_calls() if call != world.call_id]
    return world, bob, party


def refer(world: World, to: str = f"<{CAROL}>", *, sequence: int = 2, name: str = "c1", extra: str = "") -> None:
    world.within("REFER", name, sequence=sequence, extra=f"Refer-To: {to}\r\n{extra}")


def accepted(*, extra: str = "", world: World | None = None) -> tuple[World, Callee, CallId, Callee]:
    """The caller has referred bob to carol, and its application has nothing against it."""
    world, bob, party = joined(world)
    carol = Callee(world, 4)
    refer(world, extra=extra)
    world.decide(ACCEPT)
    return world, bob, party, carol


def said(world: World) -> list[tuple[str, str]]:
    """What the caller has been told by NOTIFY: state and status line."""
    return [
        (
            (each.headers.get("Subscription-State") or "").partition(";")[0],
            each.body.decode().removeprefix("SIP/2.0 ").strip(),
        )
        for each in world.requests("NOTIFY")
    ]


def notified(world: World, status: int = 200) -> None:
    """The caller answers our last NOTIFY."""
    world.packet(reply(world.requests("NOTIFY")[-1], status))


def outcomes(world: World) -> list[tuple[str, int]]:
    return [
        (each["type"], each["data"]["code"])
        for each in world.bodies
        if each["type"].startswith("transfer.") and "code" in each["data"]
    ]


def test_a_blind_transfer_connects_the_partner_with_the_target() -> None:
    world, bob, party = joined()
    carol = Callee(world, 4)
    refer(world, extra="Referred-By: <sip:caller@192.0.2.1>\r\n")
    assert world.responses(method="REFER") == [], "its application is being asked"
    world.decide(ACCEPT)
    asked = world.told("transfer.requested")
    assert (asked["to"], asked["referred_by"]) == (CAROL, "sip:caller@192.0.2.1")
    assert (asked["peer_call_id"], asked["replaces_call_id"]) == (party, None)
    assert world.responses(method="REFER")[-1].status == 202
    assert world.responses(method="REFER")[-1].headers.get("Contact") == "<sip:192.0.2.10:5060>"
    assert carol.invite.headers.get("Referred-By") == "<sip:caller@192.0.2.1>"
    assert said(world) == [("active", "100 Trying")]
    assert world.requests("NOTIFY")[0].headers.get("Event") == "refer;id=2"
    carol.answer(180)
    assert said(world) == [("active", "100 Trying")], "one NOTIFY at a time"
    notified(world)
    assert said(world)[-1] == ("active", "180 Ringing")
    notified(world)
    carol.answer(200)
    assert said(world)[-1] == ("terminated", "200 OK")
    assert world.requests("NOTIFY")[-1].headers.get("Subscription-State") == "terminated;reason=noresource"
    both = CallId(world.told("call.joined")["call_id"]), CallId(world.told("call.joined")["peer_call_id"])
    assert party in both
    assert (rule(world, both[0]).relay_to, rule(world, both[1]).relay_to) == (both[1], both[0])
    assert world.requests("BYE") == [], "not before it has heard"
    notified(world)
    assert len(world.requests("BYE")) == 1
    assert (world.ended["by"], world.ended["reason"]) == ("local", "transferred")
    assert outcomes(world) == [("transfer.progress", 100), ("transfer.progress", 180), ("transfer.completed", 200)]
    assert bob.methods == ["INVITE", "ACK"], "it notices nothing"
    bob.bye()
    assert carol.methods == ["INVITE", "ACK", "BYE"]
    world.packet(reply(world.requests("BYE")[-1], 200))
    world.advance(64.0)
    assert world.leftovers() == {}


def test_nothing_is_said_before_it_is_stored() -> None:
    world, _, _ = joined()
    carol = Callee(world, 4)
    refer(world)
    world.committing = False
    world.decide(ACCEPT)
    assert world.responses(method="REFER") == []
    assert said(world) == []
    assert carol.got == []
    world.commit_all()
    assert world.responses(202, method="REFER")
    assert said(world) == [("active", "100 Trying")]
    assert carol.requests("INVITE")


@pytest.mark.parametrize("code", [486, 603])
def test_a_target_that_does_not_want_to_leaves_the_two_as_they_were(code: int) -> None:
    world, bob, party, carol = accepted()
    notified(world)
    carol.answer(code)
    assert said(world)[-1][0] == "terminated"
    assert outcomes(world)[-1] == ("transfer.failed", code)
    notified(world)
    assert world.requests("BYE") == []
    assert (rule(world, world.call_id).relay_to, rule(world, party).relay_to) == (party, world.call_id)
    assert told(world, world.call_id)[-3:] == ["call.left", "transfer.failed", "call.joined"]
    Callee(world, 5)
    refer(world, "<sip:bob@192.0.2.5:5060>", sequence=3)
    assert len([each for each in world.flying.values() if each[1].decision]) == 1, "and may be tried again"
    bob.bye()
    assert world.responses(487, method="REFER"), "whatever ends a dialog, what is pending in it is answered"
    assert (world.ended["by"], world.ended["reason"]) == ("policy", "peer_ended")


def test_a_referrer_that_hangs_up_at_once_has_transferred() -> None:
    world, bob, party, carol = accepted()
    world.bye(sequence=3)
    assert (world.ended["by"], world.ended["reason"]) == ("remote", "transferred")
    carol.answer(200)
    assert rule(world, party).relay_to is not None
    bob.bye()
    assert carol.methods[-1] == "BYE"
    world.advance(64.0)
    assert world.leftovers() == {}


def test_a_partner_whom_nobody_wants_any_more_ends() -> None:
    world, bob, _, carol = accepted()
    world.bye(sequence=3)
    carol.answer(486)
    assert bob.methods[-1] == "BYE", "as it would have with its partner"
    world.advance(64.0)
    assert world.leftovers() == {}


def test_a_partner_that_hangs_up_gives_up_the_target_and_ends_the_referrer() -> None:
    world, bob, _, carol = accepted()
    carol.answer(180)
    bob.bye()
    assert carol.methods[-1] == "CANCEL"
    assert outcomes(world)[-1] == ("transfer.failed", 487)
    carol.answer(487)
    assert (world.ended["by"], world.ended["reason"]) == ("policy", "peer_ended")


@pytest.mark.parametrize(
    ("decision", "code"),
    [(RejectTransfer(), 603), (RejectTransfer(code=486, reason="Not Now"), 486), (None, 603)],
)
def test_a_rejected_transfer_changes_nothing(decision: RejectTransfer | None, code: int) -> None:
    world, _, party = joined()
    refer(world)
    world.decide(*(() if decision is None else (decision,)))
    assert world.responses(method="REFER")[-1].status == code
    assert said(world) == []
    assert outcomes(world) == [("transfer.failed", code)]
    assert rule(world, party).relay_to == world.call_id


def test_an_application_that_says_nothing_in_time_has_refused() -> None:
    world, _, _ = joined()
    refer(world)
    world.advance(5.1)
    assert world.responses(method="REFER")[-1].status == 603
    stored = [body for _, body in world.stored_events() if body["type"] in ("action.failed", "transfer.failed")]
    assert [body["data"]["code"] for body in stored] == ["no_reply", 603]
    assert "call.ended" not in world.types, "its fallback is for calls"


def test_a_reply_that_is_none_names_the_field() -> None:
    world, _, _ = joined()
    world.reply = InvalidReply("`actions.0.action`: no such action", "actions.0.action")
    refer(world)
    assert world.responses(method="REFER")[-1].status == 603
    assert world.told("action.failed")["field"] == "actions.0.action"


def test_the_application_may_name_another_target() -> None:
    world, _, _ = joined()
    carol = Callee(world, 4)
    refer(world, "<sip:4@example.com>")
    world.decide(AcceptTransfer(to=carol.uri))
    assert carol.requests("INVITE")


def test_whom_an_application_may_not_call_nobody_is_referred_to() -> None:
    world, _, party = joined(opted_in(plan={"destinations": Destinations(allowed=("*@192.0.2.2",))}))
    carol = Callee(world, 4)
    refer(world)
    world.decide(ACCEPT)
    assert world.responses(method="REFER")[-1].status == 403
    assert carol.got == []
    assert rule(world, party).relay_to == world.call_id


def test_who_wants_no_subscription_gets_none() -> None:
    world, _, _, carol = accepted(extra="Refer-Sub: false\r\n")
    answer = world.responses(method="REFER")[-1]
    assert (answer.status, answer.headers.get("Refer-Sub")) == (202, "false")
    carol.answer(200)
    assert world.requests("NOTIFY") == []
    assert len(world.requests("BYE")) == 1
    assert world.ended["reason"] == "transferred"


@pytest.mark.parametrize("status", [481, 489, None])
def test_who_does_not_take_our_word_is_told_no_more(status: int | None) -> None:
    world, _, _, carol = accepted()
    carol.answer(180)
    if status is None:
        world.advance(33.0)
    else:
        notified(world, status)
    carol.answer(200)
    assert len(world.requests("NOTIFY")) == 1
    assert world.ended["reason"] == "transferred"


@pytest.mark.parametrize(
    ("to", "status"),
    [
        ("", 400),
        ("<sip:>", 400),
        ("<sip:a@192.0.2.4>, <sip:b@192.0.2.4>", 400),
        ("<tel:+4930123>", 416),
        ("<http://example.com>", 416),
        ("<sip:a@192.0.2.4;method=BYE>", 403),
        ("<sip:a@192.0.2.4?Replaces=x>", 400),
        ("<sip:a@192.0.2.4?Replaces=x%3Bto-tag%3Da%3Bfrom-tag%3Db&Replaces=x%3Bto-tag%3Da%3Bfrom-tag%3Db>", 400),
        (f"<sip:{'a' * 2000}@192.0.2.4>", 400),
    ],
)
def test_a_refer_that_nobody_can_follow_is_refused_and_nobody_is_asked(to: str, status: int) -> None:
    world, _, _ = joined()
    refer(world, to)
    assert world.responses(method="REFER")[-1].status == status
    assert "transfer.requested" not in world.types
    assert world.flying == {}


def test_only_who_has_opted_in_is_asked() -> None:
    world, _, _ = joined(World())
    refer(world)
    assert world.responses(method="REFER")[-1].status == 403
    assert "transfer.requested" not in world.types


def test_a_refer_outside_a_call_is_refused() -> None:
    world = opted_in()
    world.packet(request("REFER", "r1", extra=f"Refer-To: <{CAROL}>\r\n"))
    assert world.responses(method="REFER")[-1].status == 403
    assert world.commits == []


def test_a_call_that_hears_nobody_has_nobody_to_transfer() -> None:
    world = answered(opted_in())
    refer(world)
    assert world.responses(method="REFER")[-1].status == 403


def test_one_at_a_time() -> None:
    world, _, _, carol = accepted()
    refer(world, sequence=3)
    assert world.responses(method="REFER", sequence=3)[-1].status == 491
    carol.answer(200)


def test_headers_and_passwords_of_the_target_are_not_taken_over() -> None:
    world, _, _ = joined()
    carol = Callee(world, 4)
    refer(world, "<sip:bob:secret@192.0.2.4:5060?Route=%3Csip:192.0.2.66%3E&Authorization=x>")
    world.decide(ACCEPT)
    assert carol.invite.headers.get("Route") is None
    assert carol.invite.headers.get("Authorization") is None
    assert "secret" not in carol.invite.encode().decode()


def test_phones_that_refer_each_other_without_end_come_to_one() -> None:
    """Whoever answers refers the partner to the next one, who does the same."""
    world, bob, party = joined()
    carol = Callee(world, 4)
    refer(world)
    world.decide(ACCEPT)
    carol.answer(200, tag="t0")
    for round_ in range(TRANSFERS_MOST + 3):
        carol.world.give(carol_refers(carol, round_))
        if not [each for each in world.flying.values() if each[1].decision]:
            break
        world.decide(ACCEPT)
        carol.answer(200, tag=f"t{round_ + 1}")
        _answer_notifies(carol)
    assert round_ == TRANSFERS_MOST - 1
    assert carol.responses[-1].status == 482
    assert bob.methods == ["INVITE", "ACK"]
    assert rule(world, party).relay_to is not None


def carol_refers(carol: Callee, round_: int) -> Any:
    invite = carol.invite
    return carol._packet(
        f"REFER sip:x@192.0.2.10 SIP/2.0\r\nVia: SIP/2.0/UDP {carol.host}:5060;branch=z9hG4bK-r{round_}\r\nMax-Forwards: 70\r\n"
        f"From: {invite.headers.get('To')};tag=t{round_}\r\nTo: {invite.headers.get('From')}\r\nCall-ID: {invite.call_id}\r\n"
        f"CSeq: {round_ + 500} REFER\r\nContact: <{carol.uri}>\r\nRefer-To: <{carol.uri}>\r\nContent-Length: 0\r\n\r\n"
    )


def _answer_notifies(carol: Callee) -> None:
    for each in carol.requests("NOTIFY"):
        carol.world.give(carol._packet(carol._response(each, 200)))


# Attended


def consulting(**second: Any) -> tuple[World, Callee, CallId, Callee, CallId]:
    """The caller hears bob in one call and carol in another."""
    world, bob, party = joined()
    carol = Callee(world, 4)
    world.reply = (Dial(to=(Target(carol.uri),)),)
    world.packet(request("INVITE", "c2", sdp=sdp(4100), **second))
    carol.answer(200)
    world.ack("c2")
    world.reply = None
    known = {world.call_id, party}
    other = next(
        CallId(each["data"]["call_id"])
        for each in world.bodies
        if each["type"] == "call.incoming" and each["data"]["call_id"] not in known
    )
    return world, bob, party, carol, other


def replacing(world: World, name: str = "c2", *, tag: str | None = None, from_tag: str | None = None) -> str:
    named = f"{name}%40192.0.2.1%3Bto-tag%3D{tag or world.tag(name)}%3Bfrom-tag%3D{from_tag or f'from-{name}'}"
    return f"<sip:carol@192.0.2.4?Replaces={named}>"


def test_an_attended_transfer_joins_the_partners_of_two_calls() -> None:
    world, bob, party, carol, other = consulting()
    refer(world, replacing(world))
    assert world.bodies[-1]["type"] != "transfer.requested", "not settled yet"
    world.decide(ACCEPT)
    assert world.told("transfer.requested")["replaces_call_id"] == other
    assert len(carol.requests("INVITE")) == 1, "nobody is called anew"
    notified(world)
    assert said(world)[-1] == ("terminated", "200 OK")
    notified(world)
    ended = {
        each["data"]["call_id"]: each["data"]["call"]["ended"]["reason"]
        for each in world.bodies
        if each["type"] == "call.ended"
    }
    assert ended == {world.call_id: "transferred", other: "replaced"}
    for bye in world.requests("BYE"):
        world.packet(reply(bye, 200))
    assert rule(world, party).relay_to is not None
    bob.bye()
    assert carol.methods[-1] == "BYE"
    world.advance(64.0)
    assert world.leftovers() == {}


@pytest.mark.parametrize("wrong", ["tag", "from_tag"])
def test_a_dialog_that_nobody_has_is_no_target(wrong: str) -> None:
    world, _, party, _, other = consulting()
    right = world.tag("c2")
    forged = {"tag": right[:-1] + ("a" if right[-1] != "a" else "b")} if wrong == "tag" else {"from_tag": "x"}
    refer(world, replacing(world, **forged))
    world.decide(ACCEPT)
    notified(world)
    if wrong == "from_tag":
        assert outcomes(world)[-1] == ("transfer.failed", 481)
        assert rule(world, party).relay_to == world.call_id
    assert other not in {each["data"]["call_id"] for each in world.bodies if each["type"] == "call.ended"}


def test_a_call_cannot_take_its_own_place() -> None:
    world, _, _ = joined()
    refer(world, replacing(world, "c1"))
    assert world.responses(method="REFER")[-1].status == 481


def test_somebody_elses_call_is_not_replaced() -> None:
    world, _, party, _, other = consulting()
    leg = world.node._holdings.legs[other]
    leg.call.flow = leg.call.way._replace(host="192.0.2.77")
    refer(world, replacing(world))
    world.decide(ACCEPT)
    notified(world)
    assert outcomes(world)[-1] == ("transfer.failed", 481)
    assert rule(world, party).relay_to == world.call_id


def test_a_dialog_of_somebody_elses_is_named_to_the_target() -> None:
    world, _, _ = joined()
    carol = Callee(world, 4)
    refer(world, f"<{CAROL}?Replaces=abc%40x%3Bto-tag%3D1%3Bfrom-tag%3D2>")
    world.decide(ACCEPT)
    assert carol.invite.headers.get("Replaces") == "abc@x;to-tag=1;from-tag=2"


# Who carries it on


def test_an_heir_asks_again_and_answers_the_repeated_refer() -> None:
    world, _, _ = joined()
    carol = Callee(world, 4)
    refer(world)
    heir = carol.world = world.restart()
    assert heir.responses(method="REFER") == []
    heir.decide(ACCEPT)
    assert carol.requests("INVITE")
    refer(heir)
    assert heir.responses(method="REFER")[-1].status == 202
    carol.answer(200)
    notified(heir)
    assert said(heir)[-1] == ("terminated", "200 OK")


def test_an_heir_goes_on_notifying_to_the_end() -> None:
    world, _, _, carol = accepted()
    heir = carol.world = world.restart()
    assert said(heir)[-1] == ("active", "100 Trying"), "whether that has been heard nobody knows"
    assert len(heir.requests("NOTIFY")) == 2
    notified(heir)
    carol.answer(200)
    assert said(heir)[-1] == ("terminated", "200 OK")
    again = carol.world = heir.restart()
    assert said(again)[-1] == ("terminated", "200 OK")
    assert isinstance(again.requests("NOTIFY")[-1], Request)
    notified(again)
    assert again.ended["reason"] == "transferred"
    assert outcomes(again)[-1] == ("transfer.completed", 200)


def test_a_referrer_that_joins_another_takes_nobody_apart() -> None:
    world, _, party, carol = accepted()
    carol.answer(200)
    third = world.told("call.joined")
    world.reply = (ANSWER,)
    world.packet(request("INVITE", "c9", sdp=sdp(4900)))
    world.ack("c9")
    other = CallId(world.told("call.answered")["call_id"])
    world.command(Join(call_id=other))
    assert rule(world, CallId(third["call_id"])).relay_to == third["peer_call_id"]
    together = [set(each.legs) for each in world.node.conversations()]
    assert {party, CallId(({third["call_id"], third["peer_call_id"]} - {party}).pop())} in together


def test_a_partner_whose_referrer_hears_somebody_else_by_now_stays_alone() -> None:
    world, bob, party, carol = accepted()
    world.reply = (ANSWER,)
    world.packet(request("INVITE", "c9", sdp=sdp(4900)))
    world.ack("c9")
    other = CallId(world.told("call.answered")["call_id"])
    world.command(Join(call_id=other))
    carol.answer(486)
    assert rule(world, world.call_id).relay_to == other
    assert rule(world, party).relay_to is None
    assert bob.methods[-1] != "BYE"


# INVITE with Replaces


def taking(world: World, name: str = "c7", *, of: str = "c1", extra: str = "", **tags: str) -> None:
    """A new call that wants the place of another one."""
    named = f"{of}@192.0.2.1;to-tag={tags.get('to_tag', world.tag(of))};from-tag={tags.get('from_tag', f'from-{of}')}"
    world.packet(request("INVITE", name, sdp=sdp(4700), extra=f"Replaces: {named}{extra}\r\nRequire: replaces\r\n"))


def test_a_new_call_takes_the_place_of_another() -> None:
    world, bob, party = joined()
    replaced = world.call_id
    taking(world)
    world.decide(ANSWER)
    incoming = next(each["data"] for each in reversed(world.bodies) if each["type"] == "call.incoming")
    assert incoming["replaces_call_id"] == replaced
    assert rule(world, party).relay_to == replaced, "not before it is answered"
    world.ack("c7")
    new = CallId(incoming["call_id"])
    assert (rule(world, new).relay_to, rule(world, party).relay_to) == (party, new)
    assert len(world.requests("BYE")) == 1
    assert (world.ended["by"], world.ended["reason"]) == ("local", "replaced")
    assert bob.methods == ["INVITE", "ACK"]
    world.packet(reply(world.requests("BYE")[-1], 200))
    bob.bye()
    world.advance(64.0)
    assert world.leftovers() == {}


def test_it_may_be_refused_and_changes_nothing() -> None:
    world, _, party = joined()
    taking(world)
    world.decide(Reject(code=603))
    assert world.last(603)
    assert rule(world, party).relay_to == world.call_id
    assert world.requests("BYE") == []


def test_a_call_that_hears_nobody_is_replaced_too() -> None:
    world = answered(opted_in())
    taking(world)
    world.ack("c7")
    assert world.ended["reason"] == "replaced"


@pytest.mark.parametrize(
    ("written", "status"),
    [
        ({"to_tag": "x" * 41}, 481),
        ({"from_tag": "x"}, 481),
        ({"extra": ";early-only"}, 486),
        ({"extra": ";to-tag=twice"}, 400),
        ({"extra": "\r\nReplaces: a;to-tag=b;from-tag=c"}, 400),
    ],
)
def test_what_takes_nobodys_place(written: dict[str, str], status: int) -> None:
    world, _, party = joined()
    taking(world, **written)
    assert world.responses()[-1].status == status
    assert rule(world, party).relay_to == world.call_id


def test_only_where_the_application_has_opted_in() -> None:
    world, _, _ = joined(World())
    taking(world)
    assert world.responses()[-1].status == 603


def test_an_unanswered_call_is_not_replaced() -> None:
    world = opted_in()
    world.reply = (Park(),)
    world.invite()
    taking(world)
    assert world.responses()[-1].status == 481


def test_an_ended_call_is_declined_or_unknown() -> None:
    world, _, _ = joined()
    tag = world.tag("c1")
    world.accepting = False  # its last event still waits, and so the call is still known
    world.bye(sequence=2)
    taking(world, to_tag=tag)
    assert world.responses()[-1].status == 603


def test_an_invite_for_the_place_of_another_nodes_call_goes_there() -> None:
    world, _, _ = joined()
    stranger = World(replace(opted_in().settings, node_id="n2", owner="n2:1", clustered=True))
    named = f"c1@192.0.2.1;to-tag={world.tag('c1')};from-tag=from-c1"
    given = request("INVITE", "c7", sdp=sdp(4700), extra=f"Replaces: {named}\r\n")
    stranger.packet(given)
    (passed,) = [each for each in stranger.effects if isinstance(each, PassOn)]
    assert passed.call == world.call_id
    assert stranger.responses() == []
    stranger.give(Returned(passed.data, passed.flow))
    assert stranger.responses()[-1].status == 481, "and where nobody has it, that is the answer"


def test_without_a_store_nobody_is_transferred() -> None:
    world, _, party = joined()
    world.give(StoreAway())
    world.advance(3.0)
    refer(world)
    answer = world.responses(method="REFER")[-1]
    assert (answer.status, answer.headers.get("Retry-After")) == (500, "10")
    assert rule(world, party).relay_to == world.call_id


def test_a_notify_that_is_challenged_is_sent_again_with_what_was_given_for_that_party() -> None:
    world = opted_in()
    bob, carol = Callee(world), Callee(world, 4)
    world.reply = (Dial(to=(Target(bob.uri, Credentials("bob", "secret")),)),)
    world.invite()
    bob.answer(200)
    world.ack()
    world.reply = None
    invite = bob.invite
    world.give(
        bob._packet(
            f"REFER sip:x@192.0.2.10 SIP/2.0\r\nVia: SIP/2.0/UDP {bob.host}:5060;branch=z9hG4bK-r\r\nMax-Forwards: 70\r\n"
            f"From: {invite.headers.get('To')};tag=b1\r\nTo: {invite.headers.get('From')}\r\nCall-ID: {invite.call_id}\r\n"
            f"CSeq: 500 REFER\r\nContact: <{bob.uri}>\r\nRefer-To: <{carol.uri}>\r\nContent-Length: 0\r\n\r\n"
        )
    )
    world.decide(ACCEPT)
    (asked,) = bob.requests("NOTIFY")
    challenge = 'Proxy-Authenticate: Digest realm="r", nonce="n1", qop="auth"\r\n'
    world.give(bob._packet(bob._response(asked, 407, extra=challenge)))
    again = bob.requests("NOTIFY")[-1]
    assert again.cseq.number > asked.cseq.number
    assert again.body == asked.body
    assert 'username="bob"' in (again.headers.get("Proxy-Authorization") or "")
    assert "secret" not in again.encode().decode()
    assert carol.invite.headers.get("Proxy-Authorization") is None, "they are nobody else's"
