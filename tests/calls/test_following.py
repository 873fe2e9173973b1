"""Redirects of the called: followed in order, no further than they may lead, and told where they are not followed."""

from __future__ import annotations

import pytest

from bridge.calls.actions import Credentials, Target
from bridge.calls.call import Call
from bridge.calls.events import CallAttemptFailed
from bridge.calls.facts import Contact, Ended
from bridge.calls.following import CONTACTS_TOLD
from bridge.calls.search import REDIRECTS_MOST, Search, Stage
from tests.calls.outgoing import BOB, Calling
from tests.engine.world import Sealing

ENDED = Ended("remote", "redirected", 302, "Whatever")


def redirect(*contacts: str) -> str:
    return "".join(f"Contact: {contact}\r\n" for contact in contacts)


def search_of(call: Call) -> Search:
    assert call.search is not None
    return call.search


def targets(bench: Calling) -> list[str]:
    return [each.target.uri for each in search_of(bench.call).attempts]


def begun(bench: Calling) -> list[str]:
    return [each.target.uri for each in search_of(bench.call).attempts if each.stage is Stage.LOCATING]


def redirected(*contacts: str, target: Target = BOB, status: int = 302, **how: object) -> Calling:
    bench = Calling(target, **how)  # type: ignore[arg-type]
    bench.begins()
    bench.refuse(status, extra=redirect(*contacts))
    return bench


def test_contacts_are_ordered_by_their_q() -> None:
    found = ("<sip:a@192.0.2.7>;q=0.1", "<sip:b@192.0.2.7>", "<sip:c@192.0.2.7>;q=0.5", "<tel:+1>", f"<{BOB.uri}>")
    bench = redirected(*found)
    assert targets(bench) == [BOB.uri, "sip:b@192.0.2.7", "sip:c@192.0.2.7", "sip:a@192.0.2.7"]
    assert bench.call.ended is None
    assert "call.attempt_failed" not in bench.types


def test_those_of_one_q_are_asked_together_and_the_others_when_they_have_failed() -> None:
    """Although all targets are called at once: what the application has named is not what a redirect prefers."""
    bench = redirected("<sip:a@192.0.2.7>;q=0.1", "<sip:b@192.0.2.7>;q=0.5", "<sip:c@192.0.2.7>;q=0.5")
    assert begun(bench) == ["sip:b@192.0.2.7", "sip:c@192.0.2.7"]
    for number in (2, 3):
        bench.located(number)
        assert begun(bench) != ["sip:a@192.0.2.7"]
        bench.refuse(486, number=number)
    assert begun(bench) == ["sip:a@192.0.2.7"]


def test_whoever_a_preferred_contact_sends_us_on_to_comes_before_the_next_one() -> None:
    bench = redirected("<sip:a@192.0.2.7>;q=0.1", "<sip:b@192.0.2.7>;q=0.5")
    bench.located(2)
    bench.refuse(302, number=2, extra=redirect("<sip:d@192.0.2.7>;q=0", "<sip:e@192.0.2.7>;q=0.2"))
    for number, uri in ((4, "sip:e@192.0.2.7"), (5, "sip:d@192.0.2.7"), (3, "sip:a@192.0.2.7")):
        assert begun(bench) == [uri]
        bench.located(number)
        bench.refuse(486, number=number)
    assert bench.call.is_over


def test_one_after_the_other_where_all_are() -> None:
    bench = redirected("<sip:a@192.0.2.7>", "<sip:b@192.0.2.7>", fork="serial")
    assert begun(bench) == ["sip:a@192.0.2.7"]


@pytest.mark.parametrize(
    ("q", "order"), [("nan", "ba"), ("-1", "ba"), ("9", "ba"), ("1e9", "ba"), ("1.5", "ab"), ("0.", "ba")]
)
def test_a_q_that_makes_no_sense_counts_for_little(q: str, order: str) -> None:
    bench = redirected(f"<sip:a@192.0.2.7>;q={q}", "<sip:b@192.0.2.7>;q=0.5")
    assert [uri[4] for uri in targets(bench)[1:]] == list(order)


@pytest.mark.parametrize("extra", ["", "Contact: *\r\n", "Contact: <tel:+1>\r\n", f"Contact: <{BOB.uri}>\r\n"])
def test_one_to_nowhere_is_a_failure(extra: str) -> None:
    bench = Calling(BOB)
    bench.begins()
    bench.refuse(302, extra=extra)
    assert bench.call.ended == ENDED


def test_they_do_not_go_on_for_ever() -> None:
    bench = Calling(BOB)
    bench.begins()
    for number in range(1, REDIRECTS_MOST + 1):
        bench.refuse(302, number=number, extra=redirect(f"<sip:x{number}@192.0.2.7>"))
        bench.located(number + 1)
    bench.refuse(302, number=REDIRECTS_MOST + 1, extra=redirect("<sip:once.more@192.0.2.7>"))
    assert bench.call.ended == ENDED


@pytest.mark.parametrize(
    "again", ["sip:bob@192.0.2.2", "sip:%62ob@192.0.2.2", "sip:bob@192.0.2.2;x=1", "sip:bob@192.0.2.2?Subject=hi"]
)
def test_the_same_target_is_asked_once_however_it_is_written(again: str) -> None:
    bench = redirected(f"<{again}>", target=Target("sip:bob@192.0.2.2"))
    assert bench.call.ended == ENDED


def test_what_a_uri_says_of_the_request_is_not_said() -> None:
    bench = redirected("<sip:a@192.0.2.7;method=INVITE;transport=tcp?Replaces=1&X-A=b>", "<sip:b@192.0.2.7;method=BYE>")
    assert targets(bench)[1:] == ["sip:a@192.0.2.7;transport=tcp"]


@pytest.mark.parametrize(("host", "ours"), [("192.0.2.2", True), ("192.0.2.66", False)])
def test_another_host_gets_nothing_that_was_meant_for_this_one(host: str, ours: bool) -> None:
    target = Target(BOB.uri, Credentials("us", "secret"), {"X-Account": ("17",)})
    bench = redirected(f"<sip:other@{host}>", target=target)
    sent = search_of(bench.call).attempts[-1].target
    assert (sent.auth == target.auth, sent.headers == target.headers) == (ours, ours)
    assert ours or (sent.auth, sent.headers) == (None, {})


def test_a_proxy_is_asked_for_the_same_party() -> None:
    bench = redirected("<sip:192.0.2.9;transport=tcp>", "<sip:second@192.0.2.10>;q=0.3", status=305)
    assert targets(bench) == [BOB.uri, BOB.uri]
    attempt = search_of(bench.call).attempts[-1]
    assert attempt.proxy == "sip:192.0.2.9;transport=tcp"
    bench.located(2, "192.0.2.2")
    bench.refuse(305, number=2, extra=redirect("<sip:192.0.2.9;transport=tcp>"))
    assert bench.call.ended == Ended("remote", "redirected", 305, "Whatever"), "it is asked once"


def test_what_is_something_else_than_the_party_is_not_followed() -> None:
    bench = redirected("<sip:a@192.0.2.7>", status=380)
    assert bench.call.ended == Ended("remote", "redirected", 380, "Whatever")


@pytest.mark.parametrize("how", [{"on_redirect": "report"}, {"status": 380}])
def test_contacts_that_are_not_followed_are_told(how: dict[str, object]) -> None:
    bench = redirected("<sip:a@192.0.2.7;transport=tcp>;q=0.25;expires=60", "<tel:+1>", **how)  # type: ignore[arg-type]
    (told,) = [event for event in bench.events if isinstance(event, CallAttemptFailed)]
    assert told.contacts[-2:] == (Contact("sip:a@192.0.2.7;transport=tcp", 0.25), Contact("tel:+1"))


def test_no_more_of_them_than_an_event_has_room_for() -> None:
    bench = redirected(*(f"<sip:a{number}@192.0.2.7>" for number in range(100)), on_redirect="report")
    (told,) = [event for event in bench.events if isinstance(event, CallAttemptFailed)]
    assert len(told.contacts) == CONTACTS_TOLD


def test_a_refusal_tells_none() -> None:
    bench = redirected("<sip:a@192.0.2.7>", status=486)
    (told,) = [event for event in bench.events if isinstance(event, CallAttemptFailed)]
    assert told.contacts == ()


def test_whose_turn_it_is_survives() -> None:
    bench = redirected("<sip:a@192.0.2.7>;q=0.1", "<sip:b@192.0.2.7>;q=0.5")
    bench.located(2)
    bench.refuse(305, number=2)  # each response of the bench has its Contact
    sealing = Sealing()
    revived = Search.from_data(search_of(bench.call).to_data(), sealing)
    assert [(each.parent, each.turn, each.proxy, each.depth) for each in revived.attempts] == [
        (0, 0, "", 0),
        (1, 1, "", 1),
        (1, 2, "", 1),
        (2, 0, BOB.uri, 2),
    ]
    revived.attempts[3].fail(486, "Busy Here")
    assert [each.number for each in revived.due()] == [3]
