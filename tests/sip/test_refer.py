"""What a NOTIFY about a REFER says, and how a dialog is named in Replaces."""

from __future__ import annotations

import pytest

from bridge.sip.dialog import Dialog
from bridge.sip.message import Request
from bridge.sip.parser import parse
from bridge.sip.refer import Notice, is_about_refer, read_notice, refer_lines
from bridge.sip.replaces import replaces_of, with_replaces
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
