"""REGISTER from its packet to its answer, its record in the store and its events; INVITEs of those who have registered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bridge.calls.actions import Action, Reject
from bridge.engine.effects import Noted
from bridge.engine.inputs import CommitRefused, Drain, InvalidReply, StoreAway, StoreBack
from bridge.engine.registrations import (
    AcceptRegistration,
    BindingsRead,
    ChallengeRegistration,
    Deregister,
    Deregistered,
    RegistrationRefused,
    RegistrationsDue,
    RejectRegistration,
    StoredRegistration,
    StreamsClaimed,
    User,
    UsersChanged,
    read_bindings,
)
from bridge.engine.settings import RegistrarSettings
from bridge.outbox.effects import Endpoint
from bridge.sip.digest import Ha1, Unanswerable, authorize, challenges_of, make_ha1
from bridge.sip.flow import Flow
from bridge.sip.message import Response
from bridge.sip.registrar import AddressOfRecord, Binding, Rules
from tests.engine.world import ANSWER, OFFER, World, settings

REALM = "example.com"
ALICE = AddressOfRecord("sip:alice@example.com")
PHONE = "<sip:alice@192.0.2.1:5062>"
OTHER = "<sip:alice@192.0.2.2:5062>"
PASSWORD = "correct horse"
HA1 = make_ha1("alice", REALM, PASSWORD)
USERS = {
    "alice": User("alice", HA1),
    "bob": User("bob", make_ha1("bob", REALM, "battery"), AddressOfRecord("sip:100@example.com")),
}


def registrar(**changes: Any) -> RegistrarSettings:
    return replace(RegistrarSettings(realm=REALM, users=USERS, rules=Rules(bindings_max=3)), **changes)


class Phones(World):
    """A world whose callers are phones that register."""

    def __init__(self, *, dead: World | None = None, asks: bool = False, **changes: Any) -> None:
        config = dead.settings if dead is not None else None
        if config is None:
            config = settings(domains=frozenset({"example.com"}), registrar=registrar())
            config = replace(config, **changes)
        if asks:
            config = replace(
                config, applications=tuple(replace(each, registrations=True) for each in config.applications)
            )
        super().__init__(config, dead=dead)
        self.sequences: dict[str, int] = {}

    def register(
        self,
        *contacts: str,
        name: str = "r1",
        user: str = "alice",
        password: str | Ha1 = PASSWORD,
        aor: str = ALICE,
        flow: Flow | None = None,
        extra: str = "",
    ) -> Response:
        """A phone registers, proves who it is when asked, and is answered."""
        asked = self.say("REGISTER", *contacts, name=name, aor=aor, flow=flow, extra=extra)
        if asked is None or asked.status != 401:
            assert asked is not None
            return asked
        line = self.proof(asked, user=user, password=password)
        answered = self.say("REGISTER", *contacts, name=name, aor=aor, flow=flow, extra=line + extra)
        assert answered is not None, "no answer"
        return answered

    def proof(self, challenge: Response, *, user: str = "alice", password: str | Ha1 = PASSWORD, count: int = 1) -> str:
        """The header line that answers this challenge."""
        method = challenge.cseq.method
        line = authorize(
            challenges_of(challenge),
            method=method,
            uri="sip:example.com",
            username=user,
            password=password,
            nonce_count=count,
            cnonce="c",
        )
        assert not isinstance(line, Unanswerable)
        return f"{line[0]}: {line[1]}\r\n"

    def say(
        self,
        method: str,
        *contacts: str,
        name: str = "r1",
        aor: str = ALICE,
        from_: str | None = None,
        flow: Flow | None = None,
        extra: str = "",
        sdp: str = "",
        sequence: int | None = None,
    ) -> Response | None:
        """A request of a phone, and the last word to it; None: it has not been answered."""
        sequence = self.sequences.get(name, 0) + 1 if sequence is None else sequence
        self.sequences[name] = sequence
        contact = f"Contact: {', '.join(contacts)}\r\n" if contacts else ""
        content = "Content-Type: application/sdp\r\n" if sdp else ""
        flow = flow or Flow("udp", "udp:5060", "192.0.2.1", 5062)
        self.packet(
            f"{method} sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {flow.host}:{flow.port};branch=z9hG4bK-{name}-{sequence}\r\n"
            f"Max-Forwards: 70\r\nFrom: <{from_ or aor}>;tag={name}\r\nTo: <{aor}>\r\nCall-ID: {name}@192.0.2.1\r\n"
            f"CSeq: {sequence} {method}\r\nUser-Agent: phone/1\r\n{contact}{extra}{content}"
            f"Content-Length: {len(sdp)}\r\n\r\n{sdp}",
            flow,
        )
        return self.answer(name, sequence)

    def answer(self, name: str = "r1", sequence: int | None = None) -> Response | None:
        """Our final response to that phone's last request."""
        wanted = self.sequences[name] if sequence is None else sequence
        for _, message in reversed(self.sent):
            if isinstance(message, Response) and message.call_id == f"{name}@192.0.2.1" and message.status >= 200:
                return message if message.cseq.number == wanted else None
        return None

    def bound(self, aor: AddressOfRecord = ALICE) -> tuple[Binding, ...]:
        """What the store has."""
        return read_bindings(self.keyspace.registration(aor) or b"")

    def events(self) -> list[tuple[str, int]]:
        """The type and the sequence of each event that was delivered."""
        return [(body["type"].removeprefix("registration."), body["data"]["sequence"]) for body in self.bodies]

    def notes(self, event: str) -> list[dict[str, object]]:
        return [dict(effect.facts) for effect in self.effects if isinstance(effect, Noted) and effect.event == event]


def contacts(response: Response) -> list[str]:
    return response.headers.values("Contact")


# Who may


def test_who_proves_to_be_a_user_is_bound_and_that_is_told() -> None:
    world = Phones()
    answer = world.register(f"{PHONE};expires=600")
    assert answer.status == 200
    assert contacts(answer) == [f"{PHONE};expires=600"]
    (binding,) = world.bound()
    assert (binding.contact, binding.node, binding.expires_at) == ("sip:alice@192.0.2.1:5062", "n1:1", 1600.0)
    assert world.events() == [("created", 1)]
    told = world.told("registration.created")
    assert (told["stream"], told["aor"], told["username"]) == (f"aor:{ALICE}", ALICE, "alice")
    assert told["binding"]["source"] == {"address": "192.0.2.1:5062", "transport": "udp"}
    assert world.leftovers().keys() <= {"transactions", "deadline"}


def test_nothing_is_answered_or_told_before_it_is_stored() -> None:
    world = Phones()
    challenge = world.say("REGISTER", PHONE)
    assert challenge is not None
    world.committing = False
    assert world.say("REGISTER", PHONE, extra=world.proof(challenge)) is None
    assert world.attempts == []
    world.commit_all()
    answer = world.answer()
    assert answer is not None
    assert answer.status == 200
    assert world.events() == [("created", 1)]


@pytest.mark.parametrize(("user", "password"), [("alice", "guess"), ("nobody", PASSWORD)])
def test_a_wrong_password_and_an_unknown_user_are_told_the_same(user: str, password: str) -> None:
    world = Phones()
    answer = world.register(PHONE, user=user, password=password)
    assert answer.status == 401
    offered = challenges_of(answer)
    assert [each.stale for each in offered] == [False]
    assert len(offered[0].nonce) == len(
        challenges_of(world.register(PHONE, name="r2", user="x", password="y"))[0].nonce
    )
    assert world.bound() == ()
    assert world.notes("authentication_failed")[0]["why"] == ("wrong" if user == "alice" else "unknown_user")


def test_another_s_address_is_forbidden_whether_there_is_one_or_not() -> None:
    world = Phones()
    assert world.register(PHONE, user="alice", aor="sip:100@example.com").status == 403
    assert world.register(PHONE, user="alice", aor="sip:nobody@example.com", name="r2").status == 403
    assert world.register(PHONE, user="bob", password="battery", aor="sip:100@example.com", name="r3").status == 200
    assert world.register(PHONE, user="bob", password="battery", aor="sip:bob@example.com", name="r4").status == 403


def test_only_our_domains_are_registered_for() -> None:
    world = Phones()
    assert world.register(PHONE, aor="sip:alice@elsewhere.example").status == 404
    assert world.register(PHONE, aor="sip:example.com", name="r2").status == 400
    anywhere = Phones(domains=frozenset())
    assert anywhere.register(PHONE, aor="sip:alice@192.0.2.10").status == 200


def test_a_captured_register_is_good_for_nothing() -> None:
    world = Phones()
    challenge = world.say("REGISTER", PHONE)
    assert challenge is not None
    proof = world.proof(challenge)
    first = world.say("REGISTER", PHONE, extra=proof)
    assert first is not None
    assert first.status == 200
    thief = Flow("udp", "udp:5060", "198.51.100.66", 5060)
    again = world.say("REGISTER", "<sip:thief@198.51.100.66>", name="thief", extra=proof, flow=thief)
    assert again is not None
    assert again.status == 401
    assert all(each.stale for each in challenges_of(again))
    assert [each.contact for each in world.bound()] == ["sip:alice@192.0.2.1:5062"]
    assert world.notes("authentication_failed")[0]["why"] == "replayed"


def test_a_nonce_may_be_used_again_with_a_higher_count_until_it_is_too_old() -> None:
    world = Phones()
    challenge = world.say("REGISTER", PHONE)
    assert challenge is not None
    statuses = []
    for count in (1, 2, 3):
        answer = world.say("REGISTER", PHONE, extra=world.proof(challenge, count=count))
        assert answer is not None
        statuses.append(answer.status)
    world.advance(301.0)
    late = world.say("REGISTER", PHONE, extra=world.proof(challenge, count=4))
    assert late is not None
    assert (statuses, late.status, challenges_of(late)[0].stale) == ([200, 200, 200], 401, True)


def test_users_can_be_made_changed_and_taken_away_but_not_those_of_the_configuration() -> None:
    world = Phones()
    carol = User("carol", make_ha1("carol", REALM, "one"), AddressOfRecord("sip:200@example.com"))
    aor = "sip:200@example.com"
    world.give(UsersChanged({"carol": carol, "alice": User("alice", make_ha1("alice", REALM, "other"))}))
    assert world.register(PHONE).status == 200  # the configuration's word counts
    assert world.register(PHONE, user="carol", password="one", aor=aor, name="r2").status == 200
    world.give(UsersChanged({"carol": replace(carol, ha1=make_ha1("carol", REALM, "two"))}))
    assert world.register(PHONE, user="carol", password="one", aor=aor, name="r3").status == 401
    assert world.register(PHONE, user="carol", password="two", aor=aor, name="r4").status == 200
    world.give(UsersChanged({"carol": None}))
    assert world.register(PHONE, user="carol", password="two", aor=aor, name="r5").status == 401


def test_a_wrong_password_is_told_once_a_minute() -> None:
    world = Phones()
    for number in range(5):
        world.register(PHONE, password="guess", name=f"g{number}")
    assert world.events() == [("rejected", 1)]
    assert world.told("registration.rejected")["code"] == 401
    world.advance(61.0)
    world.register(PHONE, password="guess", name="g9")
    assert world.events() == [("rejected", 1), ("rejected", 2)]


def test_who_writes_any_host_fills_no_store() -> None:
    world = Phones(domains=frozenset())
    for number in range(5):
        world.register(PHONE, password="guess", aor=f"sip:alice@host{number}", name=f"g{number}")
        world.register(PHONE, user="nobody", aor=f"sip:nobody@host{number}", name=f"n{number}")
    assert world.bodies == []
    assert world.keyspace.due_registrations(0, 10).registered == 0


# What becomes of bindings


def test_a_refresh_is_one_write_and_nothing_else() -> None:
    world = Phones()
    world.register(PHONE)
    before = len(world.effects)
    world.advance(100.0)
    assert world.register(PHONE).status == 200
    asked = [type(effect).__name__ for effect in world.effects[before:]]
    assert asked.count("WriteRegistration") == 1
    assert "ReadBindings" not in asked
    assert world.events() == [("created", 1), ("refreshed", 2)]
    assert world.bound()[0].expires_at == 4700.0


def test_two_phones_are_bound_and_both_are_told_of_both() -> None:
    world = Phones()
    world.register(PHONE)
    second = world.register(f"{OTHER};q=0.5", name="r2")
    assert len(contacts(second)) == 2
    assert len(contacts(world.register())) == 2  # a query
    assert world.events() == [("created", 1), ("created", 2)]


def test_a_star_takes_all_away() -> None:
    world = Phones()
    world.register(PHONE)
    world.register(OTHER, name="r2")
    gone = world.register("*", extra="Expires: 0\r\n")
    assert (gone.status, contacts(gone), world.bound()) == (200, [], ())
    assert world.events()[2:] == [("removed", 3), ("removed", 4)]
    assert world.told("registration.removed")["by"] == "remote"


@pytest.mark.parametrize(
    ("contact", "extra", "status"),
    [
        (f"{PHONE};expires=5", "", 423),
        ("*", "", 400),
        ("<tel:+49123>", "", 400),
    ],
)
def test_what_the_registrar_refuses_changes_nothing(contact: str, extra: str, status: int) -> None:
    world = Phones()
    world.register(PHONE)
    refused = world.register(contact, extra=extra)
    assert refused.status == status
    assert refused.headers.get("Min-Expires") == ("60" if status == 423 else None)
    assert len(world.bound()) == 1
    assert world.events() == [("created", 1)]


def test_more_phones_than_allowed_are_rejected_and_that_is_told() -> None:
    world = Phones()
    for number in range(4):
        answer = world.register(f"<sip:alice@192.0.2.{number}>", name=f"r{number}")
    assert (answer.status, answer.headers.get("Retry-After")) == (503, None)
    assert world.events()[-1] == ("rejected", 4)
    assert world.told("registration.rejected")["reason"] == "Too Many Contacts"


def test_several_at_the_same_address_are_seen_to_one_after_the_other() -> None:
    world = Phones()
    challenges = [world.say("REGISTER", PHONE, name=name) for name in ("a", "b", "c")]
    world.committing = False
    for number, (name, challenge) in enumerate(zip("abc", challenges, strict=True)):
        assert challenge is not None
        world.say("REGISTER", f"<sip:alice@192.0.2.{number}>", name=name, extra=world.proof(challenge))
    assert len([write for write in world.waiting if hasattr(write, "expected")]) == 1
    world.commit_all()
    assert [len(contacts(answer)) for name in "abc" if (answer := world.answer(name))] == [1, 2, 3]
    assert world.events() == [("created", 1), ("created", 2), ("created", 3)]


def test_a_binding_whose_time_is_up_is_told_of_once() -> None:
    world = Phones()
    world.register(f"{PHONE};expires=60", OTHER)
    world.advance(61.0)
    due = world.keyspace.due_registrations(int(world.now * 1000), 10)
    assert due.aors == (ALICE,)
    world.give(RegistrationsDue(due.aors))
    world.give(RegistrationsDue(due.aors))
    assert [each.contact for each in world.bound()] == ["sip:alice@192.0.2.2:5062"]
    assert world.events()[2:] == [("expired", 3)]
    assert world.told("registration.expired")["username"] is None
    assert world.keyspace.due_registrations(int(world.now * 1000), 10).aors == ()


def test_an_operator_can_take_all_away() -> None:
    world = Phones()
    world.register(PHONE, OTHER)
    assert Deregistered(1, 2) in world.give(Deregister(1, ALICE))
    assert world.bound() == ()
    assert world.told("registration.removed")["by"] == "local"
    assert Deregistered(2, 0) in world.give(Deregister(2, ALICE))


# Two nodes


def test_two_nodes_do_not_lose_each_other_s_bindings() -> None:
    here = Phones()
    there = Phones(owner="n2:1", node_id="n2", nonce="other")
    there.keyspace, there.clock = here.keyspace, here.clock
    assert here.register(PHONE).status == 200
    answer = there.register(OTHER, name="r2")
    assert len(contacts(answer)) == 2
    assert len(contacts(here.register("<sip:alice@192.0.2.3>", name="r3"))) == 3
    assert [binding.node for binding in here.bound()] == ["n1:1", "n2:1", "n1:1"]
    assert here.events() + there.events() == [("created", 1), ("created", 3), ("created", 2)]


def test_what_one_node_has_not_delivered_the_next_writer_delivers_first() -> None:
    here = Phones()
    there = Phones(owner="n2:1", node_id="n2", nonce="other")
    there.keyspace, there.clock, there.written = here.keyspace, here.clock, here.written
    here.accepting = False
    here.register(PHONE)
    there.register(OTHER, name="r2")
    assert there.events() == [("created", 1), ("created", 2)]
    assert there.leftovers().keys() <= {"transactions", "deadline"}


def test_what_another_node_had_from_us_and_left_is_ours_again() -> None:
    """It wrote while we still had the first event to deliver, and died before it could tell of both."""
    here = Phones()
    there = Phones(owner="n2:1", node_id="n2", nonce="other")
    there.keyspace, there.clock, there.written = here.keyspace, here.clock, here.written
    for node in (here, there):
        node.keyspace.announce(node.settings.owner, 0, b"{}", 3.0)
    here.down = there.down = True
    here.register(PHONE)
    there.register(OTHER, name="r2")
    here.keyspace.depart("n2:1")
    here.down = False
    here.give(StreamsClaimed(tuple(here.keyspace.claim_streams("n1:1", "n2"))))
    here.advance(10.0)
    assert here.events() == [("created", 1), ("created", 2)]
    assert here.keyspace.claim_streams("n1:1", "n1") == []


def test_a_node_that_is_always_overtaken_gives_up() -> None:
    world = Phones()
    challenge = world.say("REGISTER", PHONE)
    assert challenge is not None
    world.committing = False
    world.say("REGISTER", PHONE, extra=world.proof(challenge))
    for number in range(20):
        if not world.waiting:
            break
        write = world.waiting.popleft()
        world.give(RegistrationRefused(write.ticket, StoredRegistration(100 + number, 0, b"")))  # type: ignore[union-attr]
    answer = world.answer()
    assert answer is not None
    assert answer.status == 503


# Restarts, and a store that comes and goes


def test_undelivered_events_survive_the_process() -> None:
    world = Phones()
    world.down = True
    world.register(PHONE)
    world.register(PHONE)
    assert world.bodies == []
    heir = world.restart()
    heir.advance(10.0)
    assert [body["type"] for body in heir.bodies] == ["registration.created", "registration.refreshed"]
    assert heir.keyspace.claim_streams("n1:9", "n1") == []
    assert len({body["id"] for body in heir.bodies}) == 2


def test_a_delivered_event_is_not_delivered_again_after_a_restart() -> None:
    world = Phones()
    world.register(PHONE)
    heir = world.restart()
    heir.advance(100.0)
    assert len(heir.received) == 1


def test_the_sequence_goes_on_where_it_was() -> None:
    world = Phones()
    world.register(f"{PHONE};expires=60")
    world.register("*", extra="Expires: 0\r\n")
    world.register(PHONE)
    assert [sequence for _, sequence in world.events()] == [1, 2, 3]


def test_who_waits_too_long_for_the_store_gets_503_and_is_bound_all_the_same() -> None:
    world = Phones()
    challenge = world.say("REGISTER", PHONE)
    assert challenge is not None
    world.committing = False
    world.say("REGISTER", PHONE, extra=world.proof(challenge))
    world.advance(2.5)
    answer = world.answer()
    assert answer is not None
    assert (answer.status, answer.headers.get("Retry-After")) == (503, "10")
    world.commit_all()
    assert len(world.bound()) == 1
    assert world.events() == [("created", 1)]


def test_a_store_that_is_away_is_told_at_once() -> None:
    world = Phones()
    world.give(StoreAway())
    world.advance(2.5)
    refused = world.say("REGISTER", PHONE)
    assert refused is not None
    assert refused.status == 503
    world.give(StoreBack())
    assert world.register(PHONE).status == 200


def test_a_query_that_the_store_cannot_answer_gets_503() -> None:
    world = Phones()
    challenge = world.say("REGISTER")
    assert challenge is not None
    world.committing = False
    world.say("REGISTER", extra=world.proof(challenge))
    read = world.waiting.popleft()
    world.give(BindingsRead(read.reader, ALICE, None))  # type: ignore[union-attr]
    answer = world.answer()
    assert answer is not None
    assert answer.status == 503


def test_an_operator_is_told_that_the_store_does_not_answer() -> None:
    world = Phones()
    world.register(PHONE)
    world.committing = False
    world.give(Deregister(1, ALICE))
    before = len(world.effects)
    world.advance(3.0)
    assert Deregistered(1, None) in world.effects[before:]


def test_a_store_that_was_emptied_is_told_what_there_was() -> None:
    world = Phones()
    world.register(PHONE)
    world.register(OTHER, name="r2")
    world.keyspace.empty()
    answer = world.register(PHONE)
    assert len(contacts(answer)) == 2
    assert len(world.bound()) == 2
    assert [sequence for _, sequence in world.events()] == [1, 2, 3]


def test_a_draining_node_registers_nobody() -> None:
    world = Phones()
    world.give(Drain())
    refused = world.say("REGISTER", PHONE)
    assert refused is not None
    assert (refused.status, refused.reason) == (503, "Draining")


def test_answers_to_nobody_are_nobody_s() -> None:
    world = Phones()
    assert world.give(BindingsRead(-99, ALICE, ())) == []
    assert world.give(RegistrationRefused(99, None)) == []
    assert world.give(CommitRefused(99, "lost")) == []


# The application's word


def asked(reply: Sequence[Action | Any] | InvalidReply | None) -> tuple[Phones, Response | None]:
    """What comes of a REGISTER about which the application says this."""
    world = Phones(asks=True)
    world.reply = reply
    challenge = world.say("REGISTER", PHONE)
    assert challenge is not None
    return world, world.say("REGISTER", PHONE, extra=world.proof(challenge))


@pytest.mark.parametrize("reply", [(AcceptRegistration(),), ()])
def test_an_application_lets_it_register(reply: Sequence[Any]) -> None:
    world, answer = asked(reply)
    assert answer is not None
    assert answer.status == 200
    assert world.events() == [("requested", 1), ("created", 2)]
    requested = world.told("registration.requested")
    assert (requested["username"], requested["user_agent"]) == ("alice", "phone/1")
    assert [each["contact"] for each in requested["bindings"]] == ["sip:alice@192.0.2.1:5062"]


def test_an_application_may_shorten_it() -> None:
    world, answer = asked((AcceptRegistration(expires_s=90),))
    assert answer is not None
    assert contacts(answer) == [f"{PHONE};expires=90"]
    assert world.bound()[0].expires_at == 1090.0


def test_an_application_refuses_it() -> None:
    world, answer = asked((RejectRegistration(code=403, reason="Not Today"),))
    assert answer is not None
    assert (answer.status, answer.reason) == (403, "Not Today")
    assert world.bound() == ()
    assert world.events() == [("requested", 1), ("rejected", 2)]
    assert world.told("registration.rejected")["reason"] == "Not Today"


def test_an_application_wants_the_password_again() -> None:
    world, answer = asked((ChallengeRegistration(),))
    assert answer is not None
    assert answer.status == 401
    assert not challenges_of(answer)[0].stale
    assert world.bound() == ()


@pytest.mark.parametrize("plan", [(), (Reject(code=486),)])
def test_an_application_that_says_nothing_refuses_it(plan: tuple[Action, ...]) -> None:
    world = Phones(asks=True)
    (application,) = world.settings.applications
    config = replace(
        world.settings, applications=(replace(application, plan=replace(application.plan, fallback=plan)),)
    )
    world = Phones(applications=config.applications)
    challenge = world.say("REGISTER", PHONE)
    assert challenge is not None
    assert world.say("REGISTER", PHONE, extra=world.proof(challenge)) is None
    world.advance(5.5)
    answer = world.answer()
    assert answer is not None
    assert answer.status == (486 if plan else 480)
    assert world.bound() == ()


def test_an_application_that_talks_nonsense_refuses_it() -> None:
    world, answer = asked(InvalidReply("no such action", "actions.0"))
    assert answer is not None
    assert answer.status == 480
    assert world.events() == [("requested", 1), ("rejected", 2)]


def test_nobody_is_asked_about_queries_and_removals() -> None:
    world = Phones(asks=True)
    world.reply = (AcceptRegistration(),)
    world.register(PHONE)
    world.reply = None
    assert world.register().status == 200
    assert world.register(f"{PHONE};expires=0").status == 200
    assert [kind for kind, _ in world.events()] == ["requested", "created", "removed"]


def test_a_store_that_has_changed_meanwhile_is_asked_about_again() -> None:
    here = Phones(asks=True)
    there = Phones(owner="n2:1", node_id="n2", nonce="other")
    there.keyspace, there.clock, there.written = here.keyspace, here.clock, here.written
    here.reply = (AcceptRegistration(),)
    assert here.register(PHONE).status == 200
    there.register(OTHER, name="r2")
    assert len(contacts(here.register(PHONE))) == 2
    asked_for = [body for body in here.bodies if body["type"] == "registration.requested"]
    assert len(asked_for) == 2


def test_without_an_application_it_is_registered_and_nobody_is_told() -> None:
    world = Phones(applications=())
    assert world.register(PHONE).status == 200
    assert world.attempts == []
    assert world.register(PHONE).status == 200


def test_an_endpoint_that_wants_no_such_events_gets_none_and_none_are_kept() -> None:
    endpoint = Endpoint("front-desk.0", "http://app/calls", None, decision=True, events=frozenset({"call.ended"}))
    base = settings(endpoints=(endpoint,))
    world = Phones(applications=base.applications)
    assert world.register(PHONE).status == 200
    assert world.attempts == []
    assert world.keyspace.claim_streams("n1:9", "n1") == []


# Calls of those who are registered


def invite(world: Phones, *, from_: str = ALICE, extra: str = "", name: str = "c1") -> Response | None:
    return world.say("INVITE", PHONE, name=name, from_=from_, aor="sip:100@example.com", extra=extra, sdp=OFFER)


def test_a_caller_that_is_one_of_our_users_must_prove_it() -> None:
    world = Phones()
    world.reply = (ANSWER,)
    challenge = invite(world)
    assert challenge is not None
    assert challenge.status == 401
    assert world.commits == []
    answer = invite(world, extra=world.proof(challenge))
    assert answer is not None
    assert answer.status == 200
    assert world.call.authenticated_as == "alice"
    assert json.loads(world.attempts[0].body)["data"]["call"]["authenticated_as"] == "alice"


def test_who_proved_it_is_still_known_after_a_restart() -> None:
    world = Phones()
    world.reply = (ANSWER,)
    challenge = invite(world)
    assert challenge is not None
    invite(world, extra=world.proof(challenge))
    assert world.restart().call.authenticated_as == "alice"


@pytest.mark.parametrize("from_", ["sip:alice@elsewhere.example", "tel:+4930123"])
def test_others_need_not(from_: str) -> None:
    world = Phones()
    world.reply = (ANSWER,)
    answer = invite(world, from_=from_)
    assert answer is not None
    assert answer.status == 200
    assert world.call.authenticated_as is None


def test_nobody_speaks_for_another() -> None:
    world = Phones()
    challenge = invite(world)
    assert challenge is not None
    answer = invite(world, extra=world.proof(challenge, user="bob", password="battery"))
    assert answer is not None
    assert answer.status == 403
    assert world.notes("caller_is_another")[0]["username"] == "bob"


def test_all_callers_may_have_to_prove_who_they_are() -> None:
    world = Phones(registrar=registrar(authenticate="all"))
    world.reply = (ANSWER,)
    challenge = invite(world, from_="sip:anonymous@anonymous.invalid")
    assert challenge is not None
    assert challenge.status == 401
    answer = invite(world, from_="sip:anonymous@anonymous.invalid", extra=world.proof(challenge))
    assert answer is not None
    assert answer.status == 200
    assert world.call.authenticated_as == "alice"


def test_or_none_has_to() -> None:
    world = Phones(registrar=registrar(authenticate="none"))
    world.reply = (ANSWER,)
    answer = invite(world)
    assert answer is not None
    assert answer.status == 200
    assert world.call.authenticated_as is None


def test_an_address_that_is_given_to_a_user_is_that_user_s() -> None:
    world = Phones()
    challenge = invite(world, from_="sip:100@example.com")
    assert challenge is not None
    assert challenge.status == 401
    world.reply = (ANSWER,)
    answer = invite(world, from_="sip:100@example.com", extra=world.proof(challenge, user="bob", password="battery"))
    assert answer is not None
    assert answer.status == 200
    free = invite(world, from_="sip:bob@example.com", name="c2")
    assert free is not None
    assert free.status == 401  # bob's address is 100, and this is nobody's, which nobody is told
