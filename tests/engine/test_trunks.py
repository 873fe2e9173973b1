"""Calls by a trunk: which of its servers is asked and when the next one is, what an INVITE says there, and places."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from bridge.calls.actions import Credentials, Hangup, Target
from bridge.calls.facts import CallId
from bridge.engine.effects import LeavePlace, Resolve, TakePlace
from bridge.engine.inputs import PlaceTaken, Resolved
from bridge.engine.settings import RegistrarSettings
from bridge.engine.trunks import Server, Trunk, TrunksChanged
from bridge.rtp.rules import Rule
from bridge.sip.locating import Hop
from bridge.sip.uri import SipUri, parse_uri
from tests.engine.callee import Callee
from tests.engine.test_originating import ended, originate
from tests.engine.world import ANSWER, OFFER, World, settings

NUMBER = "tel:+4930123456"


def server(text: str, priority: int = 0, weight: int = 1) -> Server:
    uri = parse_uri(text)
    assert isinstance(uri, SipUri)
    return Server(uri, priority, weight)


TRUNK = Trunk(
    "carrier", (server("sip:192.0.2.2", 0), server("sip:192.0.2.3", 1), server("sip:192.0.2.4", 2)), "carrier.example"
)


def by_trunk(trunk: Trunk = TRUNK, target: Target | None = None) -> tuple[World, list[Callee]]:
    world = World(settings(trunks={trunk.name: trunk}))
    servers = [Callee(world, number) for number in (2, 3, 4)]
    originate(world, target or Target(NUMBER, trunk=trunk.name))
    return world, servers


def place(world: World, taken: bool | None) -> TakePlace:
    asked = [effect for effect in world.effects if isinstance(effect, TakePlace)][-1]
    world.give(PlaceTaken(asked.reader, asked.call, asked.trunk, taken))
    return asked


def left(world: World) -> int:
    return sum(isinstance(effect, LeavePlace) for effect in world.effects)


def over(world: World) -> None:
    world.advance(64.0)
    assert world.leftovers() == {}


def test_a_number_is_called_at_the_domain_of_the_trunk() -> None:
    world, (first, *others) = by_trunk()
    assert first.invite.uri == "sip:+4930123456@carrier.example;user=phone"
    assert first.invite.headers.get("To") == "<sip:+4930123456@carrier.example;user=phone>"
    assert not any(each.got for each in others)
    first.answer(200)
    call = world.told("call.answered")["call"]
    assert [each["trunk"] for each in call["attempts"]] == ["carrier"]
    assert call["trunk"] == "carrier"
    assert call["to"]["uri"] == NUMBER
    world.ask(Hangup())
    assert left(world) == 0  # it has no caps
    over(world)


def test_a_uri_is_called_as_it_is() -> None:
    world, (first, *_) = by_trunk(target=Target("sip:bob@example.com", trunk="carrier"))
    assert first.invite.uri == "sip:bob@example.com"
    assert first.invite.headers.get("Route") is None
    world.ask(Hangup())


def test_a_trunk_says_who_calls_and_proves_it() -> None:
    trunk = replace(
        TRUNK,
        from_="<sip:acme@carrier.example>",
        auth=Credentials("acme", "secret"),
        headers={"X-Account": ("7",), "X-Line": ("1",)},
    )
    world, (first, *_) = by_trunk(trunk, Target(NUMBER, None, {"X-Line": ("2",)}, "carrier"))
    said = first.invite.headers
    assert (said.get("From") or "").startswith("<sip:acme@carrier.example>;tag=")
    assert (said.get("X-Account"), said.get("X-Line")) == ("7", "2")
    first.answer(401, extra='WWW-Authenticate: Digest realm="carrier", nonce="n"\r\n')
    assert 'username="acme"' in (first.invite.headers.get("Authorization") or "")
    assert "secret" not in repr(world.effects)
    world.ask(Hangup())


NEXT = [500, 502, 503, 504, 580, 599]
FINAL = [400, 403, 404, 408, 480, 486, 487, 488, 600, 603, 604, 606]


@pytest.mark.parametrize("code", NEXT)
def test_a_server_that_fails_is_followed_by_the_next(code: int) -> None:
    world, (first, second, third) = by_trunk()
    first.answer(code)
    assert second.invite.call_id == first.invite.call_id
    second.answer(180)
    second.answer(code)
    third.answer(200)
    assert world.types == ["call.initiated", "call.ringing", "call.answered"]
    world.ask(Hangup())
    over(world)


@pytest.mark.parametrize("code", FINAL)
def test_what_the_party_says_is_final(code: int) -> None:
    world, (first, second, _) = by_trunk()
    first.answer(code)
    assert second.got == []
    assert world.ended["sip_code"] == code
    over(world)


@pytest.mark.parametrize("code", [408, 480])
def test_an_operator_may_want_the_next_for_silence_of_the_party_too(code: int) -> None:
    world, (first, second, _) = by_trunk(replace(TRUNK, next_on=(code,)))
    first.answer(code)
    second.answer(486)
    assert world.ended["sip_code"] == 486
    over(world)


def test_the_last_one_s_failure_is_the_call_s() -> None:
    world, servers = by_trunk()
    for each in servers:
        each.answer(500)
    assert (world.ended["by"], world.ended["sip_code"]) == ("remote", 500)
    over(world)


def test_one_that_is_overloaded_rests_and_is_asked_last() -> None:
    world, (first, second, _) = by_trunk()
    first.answer(503, extra="Retry-After: 60\r\n")
    second.answer(486)
    originate(world, Target(NUMBER, trunk="carrier"), call=CallId("call_" + "b" * 24))
    assert (len(first.requests("INVITE")), len(second.requests("INVITE"))) == (1, 2)
    second.answer(486)
    world.advance(61.0)
    originate(world, Target(NUMBER, trunk="carrier"), call=CallId("call_" + "c" * 24))
    assert len(first.requests("INVITE")) == 2
    first.answer(486)
    over(world)


@pytest.mark.parametrize(("weights", "asked"), [((1, 3), 3), ((3, 1), 2), ((0, 1), 3)])
def test_weights_share_a_priority(weights: tuple[int, int], asked: int) -> None:
    """Chance says one half here."""
    servers = (server("sip:192.0.2.2", 0, weights[0]), server("sip:192.0.2.3", 0, weights[1]))
    _, (second, third, _) = by_trunk(replace(TRUNK, servers=servers))
    assert [number for number, each in ((2, second), (3, third)) if each.got] == [asked]


def test_servers_with_names_are_looked_up_all_at_once() -> None:
    trunk = replace(
        TRUNK, servers=(server("sip:one.example", 0), server("sip:192.0.2.3", 1), server("sip:two.example", 2))
    )
    world, (first, second, third) = by_trunk(trunk)
    asked = [effect for effect in world.effects if isinstance(effect, Resolve)]
    assert [each.wanted.host for each in asked] == ["one.example", "two.example"]
    assert not any(each.got for each in (first, second, third))
    world.give(Resolved(asked[1].reader, (Hop("udp", "192.0.2.4", 5060),)))
    world.give(Resolved(asked[0].reader, ()))
    second.answer(503)
    third.answer(200)
    assert world.types[-1] == "call.answered"
    world.ask(Hangup())
    over(world)


def test_a_trunk_that_nobody_finds() -> None:
    trunk = replace(TRUNK, servers=(server("sip:one.example"),), max_calls=1)
    world, _ = by_trunk(trunk)
    place(world, True)
    asked = [effect for effect in world.effects if isinstance(effect, Resolve)][-1]
    world.give(Resolved(asked.reader, ()))
    assert world.ended == {"by": "network", "reason": "unreachable", "sip_code": 503} | {
        key: world.ended[key] for key in ("sip_reason", "q850")
    }
    assert left(world) == 1
    over(world)


def test_there_is_no_such_trunk() -> None:
    world, servers = by_trunk(target=Target(NUMBER, trunk="other"))
    assert (world.ended["reason"], world.ended["sip_code"]) == ("not_found", 404)
    assert not any(each.got for each in servers)
    over(world)


def test_trunks_come_and_go() -> None:
    world = World(settings())
    first = Callee(world, 2)
    world.give(TrunksChanged({"carrier": TRUNK}))
    originate(world, Target(NUMBER, trunk="carrier"))
    first.answer(486)
    world.give(TrunksChanged({"carrier": None}))
    later = CallId("call_" + "b" * 24)
    originate(world, Target(NUMBER, trunk="carrier"), call=later)
    assert [
        body["data"]["ended"]["sip_code"] for _, body in world.stored_events(later) if body["type"] == "call.ended"
    ] == [404]
    assert len(first.requests("INVITE")) == 1
    over(world)


class TestPlaces:
    CAPPED = replace(TRUNK, max_calls=2, calls_per_second=5)

    def test_nobody_is_called_before_there_is_one(self) -> None:
        world, (first, *_) = by_trunk(self.CAPPED)
        assert first.got == []
        asked = place(world, True)
        assert (asked.trunk, asked.max_calls, asked.calls_per_second) == ("carrier", 2, 5)
        first.answer(200)
        assert left(world) == 0
        world.ask(Hangup())
        assert left(world) == 1
        over(world)

    def test_none_is_left(self) -> None:
        world, servers = by_trunk(self.CAPPED)
        place(world, False)
        assert ended(world) == {"by": "network", "reason": "overload", "sip_code": 503}
        assert not any(each.got for each in servers)
        assert left(world) == 0
        over(world)

    def test_the_next_of_a_list_is_asked_then(self) -> None:
        other = replace(TRUNK, name="other", servers=(server("sip:192.0.2.4"),))
        world = World(settings(trunks={"carrier": self.CAPPED, "other": other}))
        callee = Callee(world, 4)
        originate(world, Target(NUMBER, trunk="carrier"), Target(NUMBER, trunk="other"), fork="serial")
        place(world, False)
        callee.answer(200)
        assert [each["trunk"] for each in world.told("call.answered")["call"]["attempts"]] == ["carrier", "other"]
        world.ask(Hangup())
        over(world)

    def test_nobody_knows_while_the_store_is_away(self) -> None:
        world, _ = by_trunk(self.CAPPED)
        place(world, None)
        assert world.ended["sip_code"] == 503
        over(world)

    @pytest.mark.parametrize("code", [486, 603])
    def test_it_is_given_back_when_the_attempt_fails(self, code: int) -> None:
        world, (first, *_) = by_trunk(self.CAPPED)
        place(world, True)
        first.answer(code)
        assert left(world) == 1
        over(world)

    def test_it_is_given_back_when_nobody_wants_it_any_more(self) -> None:
        world, (first, *_) = by_trunk(self.CAPPED)
        world.ask(Hangup())
        place(world, True)
        assert left(world) == 1
        assert first.got == []
        over(world)

    def test_it_is_taken_once_for_a_call_and_given_back_once(self) -> None:
        world = World(settings(trunks={"carrier": self.CAPPED}))
        callee = Callee(world, 2)
        originate(world, Target(NUMBER, trunk="carrier"), Target("tel:100", trunk="carrier"), fork="serial")
        place(world, True)
        callee.answer(486)
        assert left(world) == 1
        place(world, True)
        callee.answer(200)
        world.ask(Hangup())
        assert left(world) == 2
        over(world)

    def test_whoever_carries_the_call_on_gives_it_back(self) -> None:
        world, (first, *_) = by_trunk(self.CAPPED)
        place(world, True)
        first.answer(200)
        heir = world.restart(trunks={})
        heir.ask(Hangup())
        assert left(heir) == 1


class TestComing:
    """Calls that come from a trunk."""

    def coming(self, trunk: Trunk, **changes: object) -> World:
        world = World(settings(trunks={trunk.name: trunk}, **changes))
        world.reply = (ANSWER,)
        world.invite()
        return world

    def test_a_target_that_is_an_address_sends_too(self) -> None:
        world = self.coming(replace(TRUNK, servers=(server("sip:192.0.2.1:5062"),)))
        assert world.told("call.incoming")["call"]["trunk"] == "carrier"
        world.ack()
        assert world.told("call.answered")["call"]["trunk"] == "carrier"

    @pytest.mark.parametrize(
        ("network", "name"), [("192.0.2.0/24", "carrier"), ("192.0.2.1/32", "carrier"), ("198.51.100.0/24", None)]
    )
    def test_so_do_its_sources(self, network: str, name: str | None) -> None:
        world = self.coming(replace(TRUNK, sources=(ip_network(network),)))
        assert world.told("call.incoming")["call"]["trunk"] == name

    def test_it_is_asked_for_no_password(self) -> None:
        everybody = RegistrarSettings(authenticate="all")
        world = self.coming(replace(TRUNK, sources=(ip_network("192.0.2.1/32"),)), registrar=everybody)
        assert world.responses(401) == []
        assert world.responses(200)
        stranger = self.coming(TRUNK, registrar=everybody)
        assert stranger.responses(401)

    def test_what_is_changed_counts_from_then_on(self) -> None:
        world = self.coming(TRUNK)
        world.give(TrunksChanged({"carrier": replace(TRUNK, sources=(ip_network("192.0.2.1/32"),))}))
        world.invite("c2")
        assert world.told("call.incoming")["call"]["trunk"] == "carrier"
        world.give(TrunksChanged({"carrier": None}))
        world.invite("c3")
        assert world.told("call.incoming")["call"]["trunk"] is None

    def test_whoever_carries_the_call_on_knows_it(self) -> None:
        world = self.coming(replace(TRUNK, sources=(ip_network("192.0.2.1/32"),)))
        world.ack()
        heir = world.restart(trunks={})
        heir.ask(Hangup())
        assert heir.told("call.ended")["call"]["trunk"] == "carrier"


def latchings(world: World) -> set[str]:
    """How the streams that are open learn their sources."""
    return {rule.latching for rule in world.ports.values() if isinstance(rule, Rule)}


class TestMedia:
    """A provider whose media comes from elsewhere than its SDP says: `latching` of its trunk, for calls both ways."""

    LEARNS = replace(TRUNK, latching="learn", sources=(ip_network("192.0.2.1/32"),))

    @pytest.mark.parametrize("code", [183, 200])
    def test_of_a_call_by_it(self, code: int) -> None:
        world, (first, *_) = by_trunk(self.LEARNS)
        first.answer(code, offer=OFFER)
        assert latchings(world) == {"learn"}
        if code == 200:
            assert latchings(world.restart(trunks={})) == {"learn"}

    def test_of_a_call_from_it(self) -> None:
        world = World(settings(trunks={"carrier": self.LEARNS}))
        world.reply = (ANSWER,)
        world.invite()
        world.ack()
        assert latchings(world) == {"learn"}
        assert latchings(world.restart(trunks={})) == {"learn"}

    def test_everybody_else_is_as_the_plan_says(self) -> None:
        world, (first, *_) = by_trunk(TRUNK)
        first.answer(200)
        assert latchings(world) == {"strict"}
