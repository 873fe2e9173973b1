"""What a NOTIFY about a REFER says, and how a dialog is named in Replaces."""

from __future__ import annotations

import time

import pytest

from bridge.sip.dialog import Dialog
from bridge.sip.message import Request
from bridge.sip.parser import parse
from bridge.sip.refer import (
    Notice,
    Unusable,
    Wish,
    is_about_refer,
    notice_body,
    notice_lines,
    read_notice,
    read_refer,
    refer_lines,
)
from bridge.sip.replaces import Replaces, parse_replaces, replaces_of, with_replaces
from tests.engine.world import CALLER, request


def notify(body: str, *, event: str = "refer", state: str = "active", kind: str = "message/sipfrag") -> Request:
    lines = f"Event: {event}\r\nSubscription-State: {state}\r\n"
    message = parse(request("NOTIFY", sdp=body, kind=kind, extra=lines).encode())
    assert isinstance(message, Request)
    return message


def dialog() -> Dialog:
    invite = parse(request("INVITE").encode())
    assert isinstance(invite, Request)
    return Dialog.as_server(invite, "ours", CALLER)


@pytest.mark.parametrize(
    ("given", "notice"),
    [
        (notify("SIP/2.0 100 Trying"), Notice(None, False, 100, "Trying")),
        (notify("SIP/2.0 200 OK\r\nTo: x", state="Terminated ; reason=noresource"), Notice(None, True, 200, "OK")),
        (notify("SIP/2.0 486", event="refer; id=93809824"), Notice(93809824, False, 486, "")),
        (notify("SIP/2.0 180 Ringing", kind="message/sipfrag;version=2.0"), Notice(None, False, 180, "Ringing")),
        (notify("SIP/2.0 999 Odd"), Notice(None, False, None, "")),
        (notify("INVITE sip:x SIP/2.0"), Notice(None, False, None, "")),
        (notify("SIP/2.0 200 OK", kind="text/plain"), Notice(None, False, None, "")),
        (notify("SIP/2.0 200 OK", event="refer;id=-1"), Notice(None, False, 200, "OK")),
    ],
)
def test_a_notice_is_read(given: Request, notice: Notice) -> None:
    assert read_notice(given) == notice


@pytest.mark.parametrize(
    ("event", "is_it"), [("refer", True), ("Refer;id=2", True), ("presence", False), ("referx", False)]
)
def test_the_package(event: str, is_it: bool) -> None:
    assert is_about_refer(notify("SIP/2.0 200 OK", event=event)) is is_it


def test_who_refers_is_told() -> None:
    assert refer_lines("sip:carol@example.org", dialog()) == [
        ("Refer-To", "<sip:carol@example.org>"),
        ("Referred-By", "<sip:100@192.0.2.10>"),
    ]


def test_a_dialog_is_named_as_its_far_end_sees_it() -> None:
    assert replaces_of(dialog()) == "c1@192.0.2.1;to-tag=from-c1;from-tag=ours"


def test_what_delimits_in_a_uri_is_escaped() -> None:
    assert with_replaces("sip:bob@192.0.2.2", "a?b&c@h;to-tag=1;from-tag=2") == (
        "sip:bob@192.0.2.2?Replaces=a%3Fb%26c%40h%3Bto-tag%3D1%3Bfrom-tag%3D2"
    )


def refer(to: str, extra: str = "") -> Request:
    message = parse(request("REFER", extra=f"Refer-To: {to}\r\n{extra}").encode())
    assert isinstance(message, Request)
    return message


def test_what_a_refer_asks_for() -> None:
    wish = read_refer(
        refer(
            '"Carol" <sips:carol:secret@example.org:5061;method=INVITE;user=phone?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2&Subject=x>',
            'Referred-By: "Bob" <sip:bob:secret@example.com?x=y>;cid="1@x"\r\nRefer-Sub: FALSE;x\r\n',
        )
    )
    replaces = Replaces("a@b", "1", "2")
    assert wish == Wish("sips:carol@example.org:5061;user=phone", replaces, "sip:bob@example.com", False)
    assert str(replaces) == "a@b;to-tag=1;from-tag=2"


@pytest.mark.parametrize("written", ["r: sip:carol@example.org", "Refer-To: sip:carol@example.org;x=y"])
def test_a_refer_of_one_line(written: str) -> None:
    message = parse(request("REFER", extra=f"{written}\r\nb: nonsense\r\n").encode())
    assert isinstance(message, Request)
    assert read_refer(message) == Wish("sip:carol@example.org", None, None, True)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "x;to-tag=1",
        "x;from-tag=1",
        "x;to-tag=;from-tag=1",
        "x;to-tag=1;to-tag=1;from-tag=2",
        "x y;to-tag=1;from-tag=2",
    ],
)
def test_what_names_no_dialog(value: str) -> None:
    assert parse_replaces(value) is None


def test_a_dialog_is_named_and_found_again() -> None:
    named = Replaces("a=b@x", "t==", "f", early_only=True)
    assert parse_replaces(str(named)) == named


@pytest.mark.parametrize(
    "to",
    [
        "<sip:a@b?" + "Replaces&" * 6000 + ">",
        "<sip:a@b?Replaces=" + "%3B" * 20_000 + ">",
        "<sip:a@b" + ";x=y" * 15_000 + ">",
    ],
    ids=["headers", "semicolons", "parameters"],
)
def test_the_worst_that_can_be_referred_to_is_read_in_time(to: str) -> None:
    message = refer(to)
    began = time.process_time()
    assert isinstance(read_refer(message), Unusable)
    assert time.process_time() - began < 0.01


def test_what_a_notify_says() -> None:
    assert notice_lines(7, expires_s=60, over=False)[1] == ("Subscription-State", "active;expires=60")
    assert notice_lines(7, expires_s=60, over=True)[:2] == [
        ("Event", "refer;id=7"),
        ("Subscription-State", "terminated;reason=noresource"),
    ]
    assert notice_body(486, "Busy Here") == b"SIP/2.0 486 Busy Here\r\n"
