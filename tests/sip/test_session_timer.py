"""Session timers (RFC 4028): what each side says, what that puts in force, and when it is over."""

from __future__ import annotations

import pytest

from bridge.sip.headers import Headers, Malformed
from bridge.sip.message import Request, Response
from bridge.sip.session_timer import (
    MIN_SE,
    Expiry,
    Refresher,
    SessionTimer,
    agreed_with,
    answer_lines,
    min_se,
    request_lines,
    session_expires,
    taken_from,
    too_small,
)

NOW = 1000.0
OURS, THEIRS, ALONE = Refresher.OURS, Refresher.THEIRS, Refresher.ALONE


def asking(*lines: tuple[str, str]) -> Request:
    return Request("INVITE", "sip:a@b", Headers(lines), b"")


def saying(*lines: tuple[str, str]) -> Response:
    return Response(200, "OK", Headers(lines), b"")


def expires(value: str) -> tuple[str, str]:
    return "Session-Expires", value


SUPPORTED = ("Supported", "100rel, Timer")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("1800", Expiry(1800, None)),
        ("1800;refresher=uac", Expiry(1800, "uac")),
        (" 90 ; Refresher=UAS ;x", Expiry(90, "uas")),
        ("9" * 20, Expiry(2**31 - 1, None)),
        ("", Malformed("Malformed Session-Expires")),
        ("soon", Malformed("Malformed Session-Expires")),
        ("-1", Malformed("Malformed Session-Expires")),
        ("9" * 21, Malformed("Malformed Session-Expires")),
        ("90;refresher=me", Malformed("Malformed Session-Expires")),
        ("90;refresher", Malformed("Malformed Session-Expires")),
        ("90;;", Malformed("Malformed Session-Expires")),
    ],
)
def test_what_the_header_says(value: str, found: object) -> None:
    assert session_expires(asking(expires(value))) == found


def test_no_header_says_nothing() -> None:
    assert session_expires(asking()) is None


def test_its_compact_form_is_read() -> None:
    assert session_expires(asking(("x", "1800"))) == Expiry(1800, None)


@pytest.mark.parametrize(("value", "least"), [("120", 120), ("30", MIN_SE), ("x", MIN_SE), ("120;y=z", 120)])
def test_the_least_that_somebody_takes(value: str, least: int) -> None:
    assert min_se(asking(("Min-SE", value))) == least


def test_only_who_understands_a_422_gets_one() -> None:
    assert too_small(asking(expires("89"), SUPPORTED))
    assert not too_small(asking(expires("90"), SUPPORTED))
    assert not too_small(asking(expires("89")))
    assert not too_small(asking(SUPPORTED))


@pytest.mark.parametrize(
    ("lines", "wanted", "interval", "refresher", "said"),
    [
        ([expires("1800"), SUPPORTED], None, 1800, THEIRS, "1800;refresher=uac"),
        ([expires("1800;refresher=uac"), SUPPORTED], None, 1800, THEIRS, "1800;refresher=uac"),
        ([expires("1800;refresher=uas"), SUPPORTED], None, 1800, OURS, "1800;refresher=uas"),
        ([expires("1800"), SUPPORTED], 600, 600, THEIRS, "600;refresher=uac"),
        ([expires("300"), SUPPORTED], 600, 300, THEIRS, "300;refresher=uac"),
        ([expires("1800"), ("Min-SE", "900"), SUPPORTED], 600, 900, THEIRS, "900;refresher=uac"),
        ([expires("1800")], None, 1800, OURS, "1800;refresher=uas"),
        ([expires("10")], None, 90, OURS, "90;refresher=uas"),
        ([SUPPORTED], 600, 600, OURS, "600;refresher=uas"),
        ([SUPPORTED, ("Min-SE", "900")], 600, 900, OURS, "900;refresher=uas"),
        ([], 600, 600, ALONE, "600;refresher=uas"),
    ],
    ids=lambda each: str(each)[:60],
)
def test_what_our_2xx_puts_in_force(
    lines: list[tuple[str, str]], wanted: int | None, interval: int, refresher: Refresher, said: str
) -> None:
    """The table of §9, from both what they ask for and what we do."""
    request = asking(*lines)
    agreed = agreed_with(request, wanted, now=NOW)
    assert agreed == SessionTimer(interval, refresher, NOW + interval)
    required = [("Require", "timer")] if SUPPORTED in lines else []
    assert answer_lines(agreed, request) == [("Session-Expires", said), *required]


@pytest.mark.parametrize("lines", [[], [SUPPORTED]], ids=["knows of none", "supports it"])
def test_nobody_asks_and_nothing_is_in_force(lines: list[tuple[str, str]]) -> None:
    assert agreed_with(asking(*lines), None, now=NOW) is None
    assert answer_lines(None, asking(*lines)) == []


@pytest.mark.parametrize(
    ("value", "asked", "found"),
    [
        ("600;refresher=uac", 1800, SessionTimer(600, OURS, NOW + 600)),
        ("600;refresher=uas", None, SessionTimer(600, THEIRS, NOW + 600)),
        ("600", 1800, SessionTimer(600, OURS, NOW + 600)),
        ("1;refresher=uac", 1800, SessionTimer(90, OURS, NOW + 90)),
        ("nonsense", 1800, SessionTimer(1800, ALONE, NOW + 1800)),
        (None, 1800, SessionTimer(1800, ALONE, NOW + 1800)),
        (None, None, None),
    ],
)
def test_what_their_2xx_puts_in_force(value: str | None, asked: int | None, found: SessionTimer | None) -> None:
    response = saying() if value is None else saying(expires(value))
    assert taken_from(response, asked, now=NOW) == found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, None, 0), []),
        ((1800, None, 0), [expires("1800")]),
        ((1800, OURS, 90), [expires("1800;refresher=uac")]),
        ((1800, ALONE, 0), [expires("1800;refresher=uac")]),
        ((1800, THEIRS, 120), [expires("1800;refresher=uas"), ("Min-SE", "120")]),
    ],
)
def test_what_our_requests_say(given: tuple[int | None, Refresher | None, int], said: list[tuple[str, str]]) -> None:
    assert request_lines(*given) == said


@pytest.mark.parametrize(
    ("allow", "takes"), [("INVITE, update", True), ("INVITE,UPDATES", False), ("", False)], ids=["yes", "no", "nothing"]
)
def test_who_takes_update_says_so(allow: str, takes: bool) -> None:
    timer = taken_from(saying(expires("600"), ("Allow", allow)), None, now=NOW)
    assert timer is not None
    assert timer.by_update is takes
    timer = agreed_with(asking(expires("600"), ("Allow", allow)), None, now=NOW)
    assert timer is not None
    assert timer.by_update is takes


def test_ours_is_refreshed_at_half_and_given_up_before_its_end() -> None:
    timer = SessionTimer(1800, OURS, NOW + 1800)
    assert (timer.next_at, timer.ends_at) == (NOW + 900, NOW + 1768)
    assert not timer.is_over(NOW + 1767)
    assert timer.is_over(NOW + 1768)


def test_a_short_one_is_given_up_a_third_before_its_end() -> None:
    timer = SessionTimer(90, THEIRS, NOW + 90)
    assert timer.next_at == timer.ends_at == NOW + 60


def test_who_is_alone_never_gives_up() -> None:
    timer = SessionTimer(90, ALONE, NOW + 90)
    assert not timer.is_over(NOW + 10_000)
    assert timer.again_in(NOW + 10_000) == 45


def test_a_refresh_that_failed_is_tried_again_while_there_is_time() -> None:
    timer = SessionTimer(1800, OURS, NOW + 1800)
    assert timer.again_in(NOW + 900) == 434
    assert timer.again_in(NOW + 1750) == 18  # too little for another try
    assert timer.again_in(NOW + 1768) == 0


def test_a_few_seconds_more() -> None:
    assert SessionTimer(90, THEIRS, NOW).lasting(32, now=NOW).ends_at == NOW + 32
