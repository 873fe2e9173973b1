"""Whom a node hears: scanners, floods and guessers get silence, everybody else goes on beside them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from bridge.engine.admission import SCANNERS, Admission, AdmissionLimits, Banned
from bridge.engine.effects import Dropped
from bridge.engine.registrations import User
from bridge.sip.digest import make_ha1
from bridge.sip.flow import Flow
from bridge.sip.message import Response
from tests.engine.test_registering import PHONE, REALM, USERS, Phones, registrar
from tests.engine.world import OFFER

GUESSER = Flow("udp", "udp:5060", "198.51.100.66", 5060)
LIMITS = AdmissionLimits(failures=3.0, ban_s=60.0, ban_max_s=200.0)


def message(
    method: str = "OPTIONS", *, agent: str = "phone/1", from_: str = "<sip:a@x>", to: str = "<sip:b@x>"
) -> bytes:
    return f"{method} sip:x SIP/2.0\r\nFrom: {from_};tag=1\r\nTo: {to}\r\nUser-Agent: {agent}\r\n\r\n".encode()


def reason(admission: Admission, data: bytes, host: str = "192.0.2.1", *, now: float = 0.0) -> str | None:
    turned_away = admission.look(data, host, now=now)
    return None if turned_away is None else turned_away.reason


@pytest.mark.parametrize("name", SCANNERS)
@pytest.mark.parametrize("method", ["OPTIONS", "REGISTER", "INVITE"])
def test_a_scanner_that_says_what_it_is_gets_silence(name: str, method: str) -> None:
    admission = Admission(AdmissionLimits())
    assert reason(admission, message(method, agent=f"{name.title()}/0.3")) == "scanner"
    assert reason(admission, message(method, from_=f'"{name}" <sip:100@1.1.1.1>')) == "scanner"
    assert reason(admission, message(method).replace(b"User-Agent", b"Subject")) is None


def test_more_names_may_be_configured() -> None:
    admission = Admission(AdmissionLimits(scanners=("NoisyThing",)))
    assert reason(admission, message(agent="a noisything 2")) == "scanner"
    assert reason(Admission(AdmissionLimits()), message(agent="a noisything 2")) is None


@pytest.mark.parametrize(
    "data",
    [
        b"SIP/2.0 200 OK\r\nUser-Agent: friendly-scanner\r\n\r\n",
        message("BYE", to="<sip:b@x>;tag=2", agent="friendly-scanner"),
        message("ACK", agent="friendly-scanner").replace(b"To: <sip:b@x>", b"t:<sip:b@x> ; tag=9"),
    ],
)
def test_responses_and_what_is_within_a_dialog_are_always_heard(data: bytes) -> None:
    admission = Admission(AdmissionLimits(burst=1.0, failures=0.0))
    assert admission.failed("192.0.2.1", "alice", now=0.0) is not None
    for _ in range(5):
        assert reason(admission, data) is None


def test_a_source_has_a_burst_and_then_its_rate() -> None:
    admission = Admission(AdmissionLimits(requests_per_second=2.0, burst=4.0))
    assert [reason(admission, message()) for _ in range(4)] == [None] * 4
    assert reason(admission, message()) == "rate_limited"
    assert reason(admission, message(), "192.0.2.2") is None, "another source"
    assert [reason(admission, message(), now=1.0) for _ in range(3)] == [None, None, "rate_limited"]
    assert [reason(admission, message(), now=60.0) for _ in range(5)] == [*[None] * 4, "rate_limited"]


def test_only_some_of_those_who_ask_too_much_are_told_so() -> None:
    admission = Admission(AdmissionLimits(requests_per_second=1.0, burst=1.0))
    said = [reason(admission, message()) for _ in range(100)]
    assert said.count("rate_limited") == 10
    assert said.count("rate_limited_silently") == 89


def test_of_ipv6_a_network_is_one_source() -> None:
    admission = Admission(AdmissionLimits(requests_per_second=1.0, burst=2.0))
    assert [reason(admission, message(), f"2001:db8::{number}") for number in range(3)] == [None, None, "rate_limited"]
    assert reason(admission, message(), "2001:db8:0:1::1") is None
    assert reason(admission, message(), "fe80::1%eth0") is None


def test_who_guesses_is_banned_and_each_time_for_longer() -> None:
    admission, now, host = Admission(LIMITS), 0.0, "192.0.2.1"
    for lasts in (60.0, 120.0, 200.0, 200.0):
        for _ in range(3):
            assert admission.failed(host, "alice", now=now) is None
        assert admission.failed(host, "alice", now=now) == Banned(host, lasts)
        assert reason(admission, message("REGISTER"), now=now + lasts - 1.0) == "banned"
        assert reason(admission, message("CANCEL"), now=now) is None, "a call that rings may be given up"
        assert reason(admission, message("REGISTER"), "192.0.2.2", now=now) is None
        now += lasts
        assert reason(admission, message("REGISTER"), now=now) is None
    now += 200.0 + 60.0
    for _ in range(3):
        assert admission.failed(host, "alice", now=now) is None
    assert admission.failed(host, "alice", now=now) == Banned(host, 60.0), "it has behaved for long enough"


def test_a_phone_that_is_wrong_now_and_then_is_never_banned() -> None:
    admission = Admission(LIMITS)
    for minute in range(100):
        assert admission.failed("192.0.2.1", "alice", now=30.0 * minute) is None


def test_a_name_that_many_guess_at_leaves_each_of_them_fewer_tries() -> None:
    admission = Admission(replace(LIMITS, failures=20.0))
    for number in range(60):
        assert admission.failed(f"192.0.2.{number}", "alice", now=0.0) is None
    tries = [admission.failed("203.0.113.1", "alice", now=0.0) for _ in range(5)]
    assert [each is None for each in tries] == [True] * 4 + [False]
    assert all(admission.failed("203.0.113.2", "bob", now=0.0) is None for _ in range(20))


def test_trusted_networks_are_subject_to_nothing() -> None:
    admission = Admission(AdmissionLimits(burst=1.0, failures=0.0, trusted=(ip_network("192.0.2.0/24"),)))
    assert admission.failed("192.0.2.7", "alice", now=0.0) is None
    assert [reason(admission, message(agent="sipcli"), "192.0.2.7") for _ in range(3)] == [None] * 3
    assert reason(admission, message(agent="sipcli"), "2001:db8::1") == "scanner"


def test_no_number_of_strangers_makes_it_grow_or_lifts_a_ban() -> None:
    admission = Admission(replace(LIMITS, sources_max=10, trusted=(ip_network("127.0.0.0/8"),)))
    for _ in range(4):
        admission.failed("203.0.113.9", "alice", now=0.0)
    for number in range(1000):
        host = f"198.51.{number // 250}.{number % 250}"
        reason(admission, message(), host)
        admission.failed(host, f"user{number}", now=0.0)
    assert len(admission) <= 10
    assert reason(admission, message(), "203.0.113.9") == "banned"


# In a node


def test_a_guesser_is_told_nothing_more_and_its_neighbours_are_served() -> None:
    world = Phones(admission=LIMITS)
    for number in range(4):
        assert world.register(PHONE, name=f"g{number}", password="guess", flow=GUESSER).status == 401
    assert world.say("REGISTER", PHONE, name="right", flow=GUESSER) is None
    assert world.say("INVITE", PHONE, name="call", flow=GUESSER, sdp=OFFER) is None
    assert [(note["source"], note["for_s"]) for note in world.notes("source_banned")] == [("198.51.100.66", 60.0)]
    assert [each.reason for each in world.effects if isinstance(each, Dropped)] == ["banned", "banned"]
    assert world.register(PHONE, name="r9").status == 200
    world.clock.at += 60.0
    assert world.register(PHONE, name="again", flow=GUESSER).status == 200, "it may come back"


def test_one_who_asks_too_much_is_told_without_retry_after_and_its_repetitions_are_not_refused() -> None:
    world = Phones(admission=AdmissionLimits(requests_per_second=1.0, burst=2.0))
    first = world.say("OPTIONS", name="a")
    assert first is not None
    assert first.status == 200
    assert world.say("OPTIONS", name="b") is not None
    refused = world.say("OPTIONS", name="c")
    assert refused is not None
    assert (refused.status, refused.headers.get("Retry-After")) == (503, None)
    before = len(world.sent)
    repeated = world.say("OPTIONS", name="a", sequence=1)
    assert isinstance(world.sent[-1][1], Response)
    assert (len(world.sent), repeated and repeated.status) == (before + 1, 200)


@pytest.mark.parametrize("method", ["REGISTER", "INVITE"])
def test_no_answer_and_no_ban_says_who_is_there(method: str) -> None:
    """The same dialogue with a user that is there and one that is not, byte for byte but for what is each message's own."""
    users = {**USERS, "carol": User("carol", make_ha1("carol", REALM, "x"))}
    heard: list[list[tuple[object, ...]]] = []
    for name in ("carol", "nobod"):
        world = Phones(admission=LIMITS, registrar=registrar(users=users, authenticate="all"))
        said: list[tuple[object, ...]] = []
        for number in range(6):
            aor = f"sip:{name}@example.com"
            asked = world.say(
                method, PHONE, name=f"c{number}", aor=aor, flow=GUESSER, sdp=OFFER if method == "INVITE" else ""
            )
            said.append(_shape(asked, name))
            if asked is not None:
                proof = world.proof(asked, user=name, password="guess")
                answered = world.say(
                    method,
                    PHONE,
                    name=f"c{number}",
                    aor=aor,
                    flow=GUESSER,
                    extra=proof,
                    sdp=OFFER if method == "INVITE" else "",
                )
                said.append(_shape(answered, name))
        heard.append(said)
    assert heard[0] == heard[1]
    assert heard[0][0][0] == 401
    assert heard[0][-1] == ("silence",)


def _shape(answer: Response | None, name: str) -> tuple[object, ...]:
    if answer is None:
        return ("silence",)
    text = answer.encode().decode().replace(name, "name")
    return (answer.status, answer.reason, len(text), [line.split(":")[0] for line in text.split("\r\n")])


def test_at_our_domain_nobody_who_calls_learns_who_is_there() -> None:
    """`sip.authenticate: registered`, the default: the INVITE of somebody invented is challenged like that of a user."""
    shapes = []
    for name in ("alice", "nobod"):
        answer = Phones().say("INVITE", PHONE, aor="sip:100@example.com", from_=f"sip:{name}@example.com", sdp=OFFER)
        shapes.append(_shape(answer, name))
    assert shapes[0] == shapes[1]
    assert shapes[0][0] == 401


def test_a_trunk_that_is_trusted_may_call_from_our_domain_but_for_our_users() -> None:
    trusting = AdmissionLimits(trusted=(ip_network("192.0.2.0/24"),))
    world = Phones(admission=trusting)
    world.say("INVITE", PHONE, aor="sip:100@example.com", from_="sip:+4930@example.com", sdp=OFFER)
    assert len(list(world.node.calls())) == 1
    answer = world.say("INVITE", PHONE, name="a", aor="sip:100@example.com", from_="sip:alice@example.com", sdp=OFFER)
    assert answer is not None
    assert answer.status == 401
