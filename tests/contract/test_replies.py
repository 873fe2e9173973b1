"""Replies to a decision: what is taken, what is not, and how that is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.actions import Answer, Hangup, Park, Pause, Reject, Ring
from bridge.contract.replies import read_reply
from bridge.engine.inputs import InvalidReply

JSON = "application/json"


def invalid(body: bytes, content_type: str | None = JSON) -> InvalidReply:
    reply = read_reply(body, content_type)
    assert isinstance(reply, InvalidReply)
    return reply


@pytest.mark.parametrize("body", [b"", b" \r\n", b"{}", b'{"actions": []}', b'{"actions": null}', b" { } "])
def test_no_actions_mean_park(body: bytes) -> None:
    assert read_reply(body, JSON) == (Park(),)


def test_actions_come_in_their_order_with_their_defaults() -> None:
    body = b'{"actions":[{"action":"ring"},{"action":"pause","seconds":2},{"action":"answer","headers":{"X-A":"1","X-B":["2","3"]}}]}'
    assert read_reply(body, JSON) == (Ring(), Pause(seconds=2.0), Answer(headers={"X-A": ("1",), "X-B": ("2", "3")}))
    assert read_reply(b'{"actions":[{"action":"reject"}]}', JSON) == (Reject(code=480, reason=None),)
    assert read_reply(b'{"actions":[{"action":"hangup","client_state":"x"}]}', JSON) == (Hangup(client_state="x"),)


def test_the_type_is_not_judged_when_the_body_is_right() -> None:
    assert read_reply(b'{"actions":[{"action":"answer"}]}', "text/html; charset=utf-8") == (Answer(),)
    assert read_reply(b'{"actions":[{"action":"answer"}]}', None) == (Answer(),)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"action":"answer"}', "action"),
        (b'{"actions":{"action":"answer"}}', "actions"),
        (b'{"actions":["answer"]}', "actions.0"),
        (b'{"actions":[{}]}', "actions.0.action"),
        (b'{"actions":[{"action":"ring"},{"action":"dance"}]}', "actions.1.action"),
        (b'{"actions":[{"action":"ring","loud":true}]}', "actions.0.loud"),
        (b'{"actions":[{"action":"reject","code":200}]}', "actions.0.code"),
        (b'{"actions":[{"action":"reject","code":"486"}]}', "actions.0.code"),
        (b'{"actions":[{"action":"reject","reason":"a\\r\\nVia: x"}]}', "actions.0.reason"),
        (b'{"actions":[{"action":"park","timeout_s":0}]}', "actions.0.timeout_s"),
        (b'{"actions":[{"action":"park","timeout_s":NaN}]}', "actions.0.timeout_s"),
        (b'{"actions":[{"action":"pause","seconds":-1}]}', "actions.0.seconds"),
        (b'{"actions":[{"action":"answer","headers":{"Via":"x"}}]}', "actions.0.headers.Via"),
        (b'{"actions":[{"action":"answer","headers":{"X-A":["1","a\\nb"]}}]}', "actions.0.headers.X-A.1"),
        (b'{"actions":[' + b'{"action":"ring"},' * 50 + b'{"action":"ring"}]}', "actions"),
    ],
)
def test_the_wrong_field_is_named(body: bytes, field: str) -> None:
    assert invalid(body).field == field


@pytest.mark.parametrize("body", [b"[]", b"null", b'"answer"', b"5"])
def test_what_is_no_object_is_told_so(body: bytes) -> None:
    reply = invalid(body)
    assert reply.field is None
    assert reply.detail == f"the reply: should be an object; received {body.decode()}"


def test_what_was_received_is_quoted() -> None:
    assert invalid(b'{"actions":[{"action":"dance"}]}').detail == (
        'actions.0.action: unknown action "dance"; known: answer, dial, hangup, hold, join, leave, mute, park, pause, '
        'proxy, redirect, reject, ring, transfer, unhold, unmute; received {"actions":[{"action":"dance"}]}'
    )
    page = invalid(b"<!doctype html>\n<title>502", "text/html").detail
    assert page == (
        "the reply is no JSON: expected value at line 1 column 1; received <!doctype html>\\u000a<title>502 (text/html)"
    )


@pytest.mark.parametrize(
    "dial",
    [
        '{"action": "dial", "to": {"uri": "bob", "auth": {"username": "a", "password": "s3cret"}}}',
        '{"action": "dial", "to": {"uri": "sip:b@example.org", "auth": "a:s3cret"}}',
        '{"action": "dial", "to": "sip:b:s3cret@example.org"}',
        '{"action": "dial", "auth": "s3cret"}',
        '{"action": "dial", "to": {"auth": {"password": "s3cret"}}, "password": "s3cret"}',
        '{"action": "dial", "to": [{"auth": {"password": "s3cret", "username": 5}}]',
    ],
)
def test_no_password_comes_back(dial: str) -> None:
    detail = invalid(f'{{"actions": [{dial}]}}'.encode()).detail
    assert detail
    assert "s3c" not in detail


def test_every_wrong_field_is_counted() -> None:
    assert invalid(b'{"actions":[{"action":"reject","code":1,"x":1,"y":2}]}').detail.endswith(
        "; received 1 (and 2 more)"
    )


def test_a_quotation_is_short_and_moves_no_cursor() -> None:
    detail = invalid(b"\x1b[2J\x00\xff" + b"x" * 60_000, "text/plain\r\n").detail
    assert len(detail) < 300
    assert detail.isprintable()


def test_nesting_has_an_end() -> None:
    assert "recursion" in invalid(b'{"actions":' + b"[" * 30_000).detail


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.none() | st.text(max_size=20))
def test_nothing_an_application_says_raises(body: bytes, content_type: str | None) -> None:
    reply = read_reply(body, content_type)
    assert isinstance(reply, tuple) or reply.detail.isprintable()
