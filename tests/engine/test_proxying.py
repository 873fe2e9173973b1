"""Calls that are passed on (§16): the node as a stateful proxy between a caller and those who are asked."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Park, Proxy, Reject
from bridge.calls.destinations import Destinations
from bridge.calls.facts import Contact
from bridge.engine.effects import CommandAccepted
from bridge.engine.inputs import Packet
from bridge.engine.settings import Listener
from bridge.sip.flow import Flow
from tests.engine.callee import Callee
from tests.engine.test_registering import Phones
from tests.engine.world import IDENTITY, World, request, settings

INCOMING, ENDED = "call.incoming", "call.ended"


def ringing(
    *numbers: int,
    world: World | None = None,
    fork: str = "parallel",
    record_route: bool = False,
    timeout_s: float = 60.0,
) -> tuple[World, list[Callee]]:
    """A call that is passed on to these phones."""
    world = world or World()
    callees = [Callee(world, number) for number in numbers]
    targets = tuple([Contact(each.uri) for each in callees])
    world.reply = (
        Proxy(
            targets=targets,
            fork="serial" if fork == "serial" else "parallel",
            record_route=record_route,
            timeout_s=timeout_s,
        ),
    )
    world.invite()
    return world, callees


def clean(world: World) -> None:
    world.advance(300.0)
    assert world.leftovers() == {}


def test_the_first_who_answers_has_the_call() -> None:
    world, (desk, mobile) = ringing(2, 3)
    assert desk.invite.uri == desk.uri
    assert [each.method for each in (desk.invite, mobile.invite)] == ["INVITE", "INVITE"]
    assert desk.invite.call_id == mobile.invite.call_id == "c1@192.0.2.1", "it is the caller's own INVITE"
    assert desk.invite.headers.get("Max-Forwards") == "69"
    assert desk.invite.headers.get("Max-Breadth") == "30"
    assert "Record-Route" not in desk.invite.headers
    assert desk.invite.via.branch != mobile.invite.via.branch
    desk.answer(180, tag="d")
    mobile.answer(180, tag="m")
    mobile.answer(200, tag="m")
    assert world.statuses == [100, 180, 180, 200]
    assert (world.last(200).to_tag, len(world.last(200).headers.values("Via"))) == ("m", 1)
    assert desk.methods == ["INVITE", "CANCEL"]
    reason = desk.requests("CANCEL")[0].headers.get("Reason")
    assert reason == 'SIP;cause=200;text="Call completed elsewhere"'
    assert world.types == [INCOMING, "call.ringing", "call.proxied", ENDED]
    proxied = world.told("call.proxied")
    assert (proxied["code"], proxied["reason"], proxied["target"]) == (200, "Whatever", mobile.uri)
    assert world.told("call.ringing")["target"] == desk.uri
    assert (world.ended["by"], world.ended["reason"], world.ended["sip_code"]) == ("remote", "proxied", 200)
    assert world.ports == {}, "no media passes us"
    desk.answer(487, tag="d")
    assert desk.methods == ["INVITE", "CANCEL", "ACK"]
    clean(world)
    assert world.types[-1] == ENDED


def test_it_is_stored_before_it_is_asked() -> None:
    world = World()
    bob = Callee(world)
    world.invite()
    world.committing = False
    world.decide(Proxy(targets=(Contact(bob.uri),)))
    assert bob.got == []
    world.commit_all()
    assert bob.methods == ["INVITE"]


def test_one_after_the_other() -> None:
    world, (desk, mobile) = ringing(2, 3, fork="serial", timeout_s=20.0)
    desk.answer(180, tag="d")
    assert mobile.got == []
    world.advance(21.0)
    assert desk.methods == ["INVITE", "CANCEL"]
    assert "Reason" not in desk.requests("CANCEL")[0].headers
    desk.answer(487, tag="d")
    assert mobile.methods == ["INVITE"]
    mobile.answer(486, tag="m")
    assert world.statuses == [100, 180, 486], "who is busy tells more than who was silent"
    assert world.told("call.proxied")["target"] == mobile.uri
    clean(world)


def test_nobody_answers_in_time() -> None:
    world, (desk,) = ringing(2, timeout_s=20.0)
    desk.answer(180, tag="d")
    world.advance(21.0)
    desk.answer(487, tag="d")
    assert world.statuses == [100, 180, 408]
    assert (world.ended["by"], world.ended["reason"], world.ended["sip_code"]) == ("local", "proxied", 408)
    assert world.told("call.proxied")["target"] is None
    clean(world)


def test_who_has_said_nothing_keeps_nobody_waiting() -> None:
    world, (desk,) = ringing(2, timeout_s=5.0)
    world.advance(5.5)
    assert list(dict.fromkeys(world.statuses)) == [100, 408]
    desk.answer(180, tag="d")
    assert desk.methods == ["INVITE", "CANCEL"], "its CANCEL has waited for a first word (§9.1)"
    clean(world)


def test_the_caller_gives_up() -> None:
    world, (desk, mobile) = ringing(2, 3)
    desk.answer(180, tag="d")
    mobile.answer(180, tag="m")
    world.cancel()
    assert len(world.responses(200, "CANCEL")) == 1
    assert desk.methods == mobile.methods == ["INVITE", "CANCEL"]
    assert world.statuses == [100, 180, 180]
    desk.answer(487, tag="d")
    mobile.answer(487, tag="m")
    assert world.statuses == [100, 180, 180, 487]
    assert (world.ended["by"], world.ended["reason"]) == ("remote", "canceled")
    assert "call.proxied" not in world.types
    clean(world)


def test_an_answer_that_crosses_the_cancel_wins() -> None:
    world, (desk,) = ringing(2)
    desk.answer(180, tag="d")
    world.cancel()
    desk.answer(200, tag="d")
    assert world.statuses == [100, 180, 200]
    assert world.ended["reason"] == "proxied"
    clean(world)


def test_every_challenge_goes_back() -> None:
    world, (desk, mobile) = ringing(2, 3)
    desk.answer(401, tag="d", extra='WWW-Authenticate: Digest realm="a", nonce="1"\r\n')
    mobile.answer(407, tag="m", extra='Proxy-Authenticate: Digest realm="b", nonce="2"\r\n')
    said = world.last(401)
    assert (len(said.headers.lines("WWW-Authenticate")), len(said.headers.lines("Proxy-Authenticate"))) == (1, 1)
    assert world.told("call.proxied")["code"] == 401
    clean(world)


def test_whoever_declines_for_everybody_ends_the_search() -> None:
    world, (desk, mobile) = ringing(2, 3)
    mobile.answer(180, tag="m")
    desk.answer(603, tag="d")
    assert mobile.methods == ["INVITE", "CANCEL"]
    mobile.answer(487, tag="m")
    assert world.statuses == [100, 180, 603]
    clean(world)


def test_timer_c_ends_what_rings_for_ever() -> None:
    world, (desk,) = ringing(2, timeout_s=3600.0, world=World(settings(plan={"ring_limit_s": 3600.0})))
    desk.answer(180, tag="d")
    world.advance(100.0)
    desk.answer(180, tag="d")
    world.advance(180.0)
    assert desk.methods == ["INVITE"]
    world.advance(10.0)
    assert desk.methods == ["INVITE", "CANCEL"]
    desk.answer(487, tag="d")
    assert world.statuses[-1] == 487
    clean(world)


def test_the_plan_s_limit_holds_for_all_of_them_together() -> None:
    world, (desk, mobile) = ringing(2, 3, fork="serial", world=World(settings(plan={"ring_limit_s": 30.0})))
    desk.answer(180, tag="d")
    world.advance(31.0)
    desk.answer(487, tag="d")
    assert mobile.got == []
    assert world.statuses == [100, 180, 408]
    clean(world)


@pytest.mark.parametrize(
    ("extra", "status"),
    [("Max-Forwards: 0\r\n", 483), ("Proxy-Require: mystery\r\n", 420), ("Max-Breadth: 1\r\n", 440)],
)
def test_what_may_not_pass(extra: str, status: int) -> None:
    world = World()
    desk, mobile = Callee(world, 2), Callee(world, 3)
    world.reply = (Proxy(targets=(Contact(desk.uri), Contact(mobile.uri))),)
    text = request("INVITE", extra=extra)
    world.packet(text.replace("Max-Forwards: 70\r\n", "", 1) if "Forwards" in extra else text)
    assert world.statuses == [100, status]
    assert desk.got == mobile.got == []
    assert world.ended["sip_code"] == status
    clean(world)


def test_a_loop_is_found() -> None:
    world, (desk,) = ringing(2)
    looped = desk.invite.encode().replace(b"Max-Forwards: 69", b"Max-Forwards: 60")
    world.reply = (Proxy(targets=(Contact(desk.uri),)),)
    changed = looped.replace(b"INVITE " + desk.uri.encode(), b"INVITE sip:100@192.0.2.10", 1)
    assert changed != looped
    world.give(Packet(changed, Flow("udp", "udp:5060", "192.0.2.2", 5060)))
    assert [each.status for each in desk.responses] in ([100, 482], [482])


def test_only_where_the_application_may_call() -> None:
    plan = {"destinations": Destinations(allowed=("bob@192.0.2.3",))}
    world, (desk, mobile) = ringing(2, 3, world=World(settings(plan=plan)))
    assert desk.got == []
    assert mobile.methods == ["INVITE"]
    mobile.answer(404, tag="m")
    assert world.statuses == [100, 404]
    clean(world)
    world, (desk,) = ringing(2, world=World(settings(plan=plan)))
    assert (desk.got, world.statuses, world.ended["reason"]) == ([], [100, 403], "forbidden")
    clean(world)


def test_a_route_of_the_caller_s_leads_nowhere() -> None:
    world = World()
    desk, elsewhere = Callee(world, 2), Callee(world, 9)
    world.reply = (Proxy(targets=(Contact(desk.uri),)),)
    world.invite(extra="Route: <sip:192.0.2.10;lr>, <sip:192.0.2.9;lr>\r\n")
    assert (desk.methods, elsewhere.got) == (["INVITE"], [])
    assert "Route" not in desk.invite.headers


@pytest.mark.parametrize("action", [Park(), Reject(code=486)])
def test_another_command_takes_it_back(action: Park | Reject) -> None:
    world, (desk,) = ringing(2)
    desk.answer(180, tag="d")
    assert isinstance(world.command(action), CommandAccepted)
    assert desk.methods == ["INVITE", "CANCEL"]
    assert "action.canceled" in world.types
    desk.answer(487, tag="d")
    assert world.statuses[-1] == (180 if isinstance(action, Park) else 486)


def test_whoever_was_given_up_and_answers_all_the_same_has_the_call() -> None:
    """The caller has it, whatever the application has wanted meanwhile."""
    world, (desk,) = ringing(2)
    desk.answer(180, tag="d")
    world.command(Park())
    desk.answer(200, tag="d")
    assert (world.statuses[-1], world.last(200).to_tag) == (200, "d")
    assert world.types[-2:] == ["call.proxied", ENDED]
    assert world.told("call.proxied")["target"] == desk.uri
    desk.answer(200, tag="d")
    assert len(world.responses(200)) == 2, "and again, for as long as nobody has acknowledged it"
    clean(world)


def test_a_call_is_passed_on_once_more() -> None:
    world, (desk,) = ringing(2)
    mobile = Callee(world, 3)
    desk.answer(180, tag="d")
    world.command(Proxy(targets=(Contact(mobile.uri), Contact(desk.uri))))
    assert desk.methods == ["INVITE", "CANCEL", "INVITE"]
    mobile.answer(200, tag="m")
    assert world.statuses == [100, 180, 200]
    clean(world)


def test_a_late_answer_goes_past_us() -> None:
    world, (desk, mobile) = ringing(2, 3)
    desk.answer(180, tag="d")
    mobile.answer(200, tag="m")
    desk.answer(200, tag="d")
    assert [each.to_tag for each in world.responses(200)] == ["m", "d"]
    clean(world)
    desk.answer(200, tag="d")
    assert [each.to_tag for each in world.responses(200)] == ["m", "d", "d"], "nothing is remembered of it"


def test_the_dialog_passes_us_where_that_is_wanted() -> None:
    world, (desk,) = ringing(2, record_route=True)
    desk.answer(200, tag="d", extra=f"Record-Route: {desk.invite.headers.get('Record-Route')}\r\n")
    (route,) = world.last(200).headers.values("Record-Route")
    clean(world)
    world.packet(_within("ACK", route))
    assert desk.methods == ["INVITE", "ACK"]
    world.packet(_within("BYE", route))
    bye = desk.requests("BYE")[0]
    assert (bye.uri, "Route" in bye.headers, bye.headers.get("Max-Forwards")) == (desk.uri, False, "69")
    assert len(world.responses(200, "BYE")) == 1, "and its answer finds its way back"
    clean(world)
    # At another node that shares the address and the secret.
    other = World(settings(node_id="n2", owner="n2:1"))
    there = Callee(other, 2)
    other.packet(_within("BYE", route))
    assert there.methods == ["BYE"]
    assert len(other.responses(200, "BYE")) == 1


def test_what_follows_no_route_of_ours_is_not_passed_on() -> None:
    world, (desk,) = ringing(2, record_route=True)
    forged = "<sip:192.0.2.10:5060;transport=udp;lr;dialog=aaaaaaaaaaaaa>"
    for route in (forged, "<sip:192.0.2.10:5060;lr>", desk.invite.headers.get("Record-Route") or ""):
        name = "c1" if route in (forged, "<sip:192.0.2.10:5060;lr>") else "another"
        world.packet(_within("BYE", route, name))
    assert desk.methods == ["INVITE"]
    assert len(world.responses(481, "BYE")) == 3


def test_a_response_that_answers_nothing_of_ours_is_dropped() -> None:
    world = World()
    victim = Callee(world, 9)
    for branch in ("z9hG4bK-aaaaaaaaaaaaa.0123456789abcdef", "z9hG4bKabc.p1.0.0123456789abcdef"):
        world.packet(
            f"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch={branch}\r\n"
            "Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK-x\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n"
            "Call-ID: x\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        )
    assert (victim.got, victim.responses) == ([], [])


def test_the_registered_contacts_of_whom_the_caller_wants() -> None:
    world = Phones()
    callees = []
    for number in (2, 3):
        flow = Flow("udp", "udp:5060", f"192.0.2.{number}", 5060)
        world.register(f"<sip:alice@10.0.0.{number}:5062>", name=f"r{number}", flow=flow)
        callees.append(Callee(world, number))
    world.reply = (Proxy(),)
    world.packet(request("INVITE").replace("sip:100@192.0.2.10", "sip:alice@example.com"))
    desk, mobile = callees
    assert (desk.invite.uri, mobile.invite.uri) == ("sip:alice@10.0.0.2:5062", "sip:alice@10.0.0.3:5062")
    mobile.answer(200, tag="m")
    assert world.statuses[-1] == 200


def test_nobody_has_registered() -> None:
    world = Phones()
    world.reply = (Proxy(),)
    world.packet(request("INVITE").replace("sip:100@192.0.2.10", "sip:alice@example.com"))
    assert world.statuses == [100, 480]
    assert world.ended["reason"] == "proxied"


def test_another_process_carries_it_on() -> None:
    world, (desk, mobile) = ringing(2, 3)
    desk.answer(180, tag="d")
    heir = world.restart()
    desk.world = mobile.world = heir
    assert [each.via.branch for each in mobile.requests("INVITE")] == [mobile.invite.via.branch], "the same bytes again"
    assert len([each for each in mobile.got if each.method == "INVITE"]) == 2
    assert len([each for each in desk.got if each.method == "INVITE"]) == 1, "it rings already"
    mobile.answer(200, tag="m")
    assert heir.statuses[-1] == 200
    assert desk.methods == ["INVITE", "CANCEL"]
    desk.answer(487, tag="d")
    assert [body["type"] for _, body in heir.stored_events()][-2:] == ["call.proxied", ENDED]
    clean(heir)


def test_another_process_cancels_the_losers_again() -> None:
    world, (desk, mobile) = ringing(2, 3)
    desk.answer(180, tag="d")
    desk.deaf = True
    mobile.answer(200, tag="m")
    heir = world.restart()
    desk.world = heir
    assert len(desk.requests("CANCEL")) == 1
    desk.answer(487, tag="d")
    clean(heir)


def test_another_node_with_its_own_address_gives_them_up() -> None:
    """Their answers would go to where nobody is."""
    world, (desk, mobile) = ringing(2, 3)
    desk.answer(180, tag="d")
    heir = world.restart(listeners={"udp:5060": Listener("udp:5060", "192.0.2.11:5060", IDENTITY)})
    assert desk.methods == ["INVITE", "CANCEL"]
    assert desk.requests("CANCEL")[0].headers.lines("Via")[0] == desk.invite.headers.lines("Via")[0]
    assert heir.statuses[-1] == 500
    assert [body["type"] for _, body in heir.stored_events()][-2:] == ["call.proxied", ENDED]
    desk.world = mobile.world = heir
    heir.advance(200.0)
    assert heir.leftovers() == {}


def test_a_look_up_that_was_under_way_begins_anew() -> None:
    world = Phones()
    world.register("<sip:alice@10.0.0.2:5062>", name="r2", flow=Flow("udp", "udp:5060", "192.0.2.2", 5060))
    desk = Callee(world, 2)
    world.reply = None
    world.packet(request("INVITE").replace("sip:100@192.0.2.10", "sip:alice@example.com"))
    world.committing = False
    world.decide(Proxy())
    assert desk.got == []
    heir = world.restart(applied=99)
    desk.world = heir
    assert desk.methods == ["INVITE"]
    desk.answer(200)
    assert heir.statuses[-1] == 200


def test_what_is_kept_of_it_is_read_as_it_was_written() -> None:
    world, (desk, _) = ringing(2, 3, fork="serial")
    desk.answer(180, tag="d")
    passage = world.call.passage
    assert passage is not None
    assert type(passage).from_data(passage.to_data()).to_data() == passage.to_data()


def _within(method: str, route: str, name: str = "c1") -> str:
    """A request of the caller within the dialog with the phone at 192.0.2.2."""
    text = request(method, name, sequence=1 if method == "ACK" else 2, to_tag="d", extra=f"Route: {route}\r\n")
    return text.replace("sip:100@192.0.2.10 SIP", "sip:bob@192.0.2.2:5060 SIP", 1)
