"""The actions: their fields, the safety of their headers, and the way there and back."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from bridge.calls import actions as calls
from bridge.calls.facts import Contact
from bridge.contract.actions import COMMANDS, NAMES, ActionList, AnswerBody, ListedAction, RingBody, to_actions
from bridge.contract.headers import HEADERS_MAX, HEADERS_MAX_BYTES
from bridge.contract.refusals import REFUSALS_MAX, quote, refusals_of

LISTED: TypeAdapter[Any] = TypeAdapter(list[ListedAction])

OTHER = "call_" + "b" * 24

# As JSON has it, without its name; and as the call model says it.
ACTIONS: list[tuple[dict[str, Any], calls.Action]] = [
    ({}, calls.Ring()),
    (
        {"headers": {"X-Account": ["17", "18"]}, "client_state": "step=2"},
        calls.Answer(headers={"X-Account": ("17", "18")}, client_state="step=2"),
    ),
    ({"code": 486, "reason": "Gone fishing"}, calls.Reject(code=486, reason="Gone fishing")),
    (
        {
            "contacts": [
                "sip:bob@example.com",
                {"uri": "sips:bob@example.org;transport=tcp", "q": 0.25},
                "tel:+4930123",
            ],
            "code": 300,
            "reason": "Choose",
            "headers": {"Diversion": "<sip:desk@example.com>"},
            "client_state": "x",
        },
        calls.Redirect(
            contacts=(
                Contact("sip:bob@example.com"),
                Contact("sips:bob@example.org;transport=tcp", 0.25),
                Contact("tel:+4930123"),
            ),
            code=300,
            reason="Choose",
            headers={"Diversion": ("<sip:desk@example.com>",)},
            client_state="x",
        ),
    ),
    (
        {
            "targets": ["sip:bob@example.com", {"uri": "sips:bob@example.org", "q": 0.25}],
            "fork": "serial",
            "record_route": True,
            "timeout_s": 20,
        },
        calls.Proxy(
            targets=(Contact("sip:bob@example.com"), Contact("sips:bob@example.org", 0.25)),
            fork="serial",
            record_route=True,
            timeout_s=20.0,
        ),
    ),
    ({"seconds": 2.5}, calls.Pause(seconds=2.5)),
    ({"timeout_s": 30}, calls.Park(timeout_s=30.0)),
    ({"reason": "closed", "headers": {"X-Bye": "now"}}, calls.Hangup(reason="closed", headers={"X-Bye": ("now",)})),
    (
        {
            "to": ["sip:bob@example.com", {"uri": "sips:bob@example.org", "headers": {"X-A": "1"}}],
            "from": '"Front Desk" <sip:desk@example.com>',
            "fork": "serial",
            "timeout_s": 20,
            "on_redirect": "report",
            "answer_caller": "now",
            "end_with_peer": False,
            "client_state": "x",
        },
        calls.Dial(
            to=(calls.Target("sip:bob@example.com"), calls.Target("sips:bob@example.org", headers={"X-A": ("1",)})),
            from_='"Front Desk" <sip:desk@example.com>',
            fork="serial",
            timeout_s=20.0,
            on_redirect="report",
            answer_caller="now",
            end_with_peer=False,
            client_state="x",
        ),
    ),
    ({"call_id": OTHER, "end_with_peer": True}, calls.Join(call_id=OTHER, end_with_peer=True)),
    ({}, calls.Leave()),
    ({}, calls.Hold()),
    ({}, calls.Unhold()),
    ({}, calls.Mute()),
    ({"client_state": "x"}, calls.Unmute(client_state="x")),
    (
        {"to": "sip:b@example.org", "replaces_call_id": OTHER},
        calls.Transfer(to="sip:b@example.org", replaces_call_id=OTHER),
    ),
]
REQUIRED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dial": ({"to": "sip:b@example.org"}, {"to": (calls.Target("sip:b@example.org"),)}),
    "proxy": ({}, {}),
    "redirect": ({"contacts": ["sip:b@example.org"]}, {"contacts": (Contact("sip:b@example.org"),)}),
    "transfer": ({"replaces_call_id": OTHER}, {"replaces_call_id": OTHER}),
    "join": ({"call_id": OTHER}, {"call_id": OTHER}),
}


def test_no_action_is_forgotten() -> None:
    assert {action.name for action in get_args(calls.Action)} == NAMES == {action.name for _, action in ACTIONS}
    assert set(COMMANDS) == NAMES - {"pause"}


@pytest.mark.parametrize(("given", "action"), ACTIONS, ids=lambda it: getattr(it, "name", ""))
def test_json_says_what_the_call_model_says(given: dict[str, Any], action: calls.Action) -> None:
    assert to_actions(LISTED.validate_python([{"action": action.name, **given}])) == (action,)
    if action.name in COMMANDS:
        assert COMMANDS[action.name].model_validate(given).to_action() == action


@pytest.mark.parametrize("action", get_args(calls.Action), ids=lambda action: action.name)
def test_defaults_are_those_of_the_call_model(action: type[calls.Action]) -> None:
    given, said = REQUIRED.get(action.name, ({}, {}))
    assert to_actions(LISTED.validate_python([{"action": action.name, **given}])) == (action(**said),)


@pytest.mark.parametrize("given", [{}, {"to": None}, {"to": "sip:b@example.org?Replaces=x"}, {"replaces_call_id": "x"}])
def test_a_transfer_says_whom(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        COMMANDS["transfer"].model_validate(given)


def headers_refused(headers: object) -> str:
    with pytest.raises(ValidationError) as caught:
        AnswerBody.model_validate({"headers": headers})
    return str(refusals_of(caught.value)[0])


@pytest.mark.parametrize(
    "name",
    [
        *("Via", "From", "To", "Call-ID", "CSeq", "Contact", "Route", "Record-Route", "Content-Type", "Content-Length"),
        *("content-disposition", "VIA", "call-id", "v", "f", "t", "i", "m", "l", "c", "Require", "Max-Forwards"),
        *("Authorization", "proxy-authorization"),
    ],
)
def test_headers_that_we_own_are_refused(name: str) -> None:
    assert headers_refused({name: "x"}).startswith(f"headers.{name}: is a header that this service sets itself")


@pytest.mark.parametrize("name", ["", "X A", "X:A", "X\r\nVia", "Ångström", "X-A\x00", "x" * 65])
def test_a_name_is_a_token(name: str) -> None:
    assert headers_refused({name: "x"}).startswith("headers")


@pytest.mark.parametrize("value", ["a\r\nVia: b", "a\nb", "a\rb", "a\x00b", "a\u2028b", "a\x85b", "a\x7f"])
def test_a_value_is_one_line(value: str) -> None:
    assert headers_refused({"X-A": value}).startswith("headers.X-A.0: must be one line")
    assert headers_refused({"X-A": ["fine", value]}).startswith("headers.X-A.1: must be one line")


@pytest.mark.parametrize("headers", [[], "X-A: b", {"X-A": 5}, {"X-A": None}, {"X-A": []}, {"X-A": [["b"]]}])
def test_headers_have_names_and_texts(headers: object) -> None:
    assert headers_refused(headers).startswith("headers")


def test_headers_are_bounded_in_number_and_size() -> None:
    many = {f"X-{number}": "v" for number in range(HEADERS_MAX + 1)}
    assert "more than 32 lines" in headers_refused(many)
    wide = {f"X-{number}": "v" * 250 for number in range(HEADERS_MAX_BYTES // 250 + 1)}
    assert "more than 2048 bytes" in headers_refused(wide)
    # Bytes are what counts on the wire, not characters.
    assert "more than 2048 bytes" in headers_refused({f"X-{number}": "🂡" * 200 for number in range(3)})


def test_text_in_headers_is_utf8() -> None:
    body = AnswerBody.model_validate({"headers": {"Subject": "Ångström", "X-Empty": ""}})
    assert body.to_action() == calls.Answer(headers={"Subject": ("Ångström",), "X-Empty": ("",)})


def test_client_state_is_bounded_in_bytes() -> None:
    assert RingBody.model_validate({"client_state": "x" * 4096}).client_state == "x" * 4096
    for state in ("x" * 4097, "é" * 2049):
        with pytest.raises(ValidationError, match="at most 4096 bytes"):
            RingBody.model_validate({"client_state": state})


def test_a_list_by_rest_has_something_in_it() -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        ActionList.model_validate({"actions": []})


def test_what_is_wrong_is_told_in_a_bounded_way() -> None:
    with pytest.raises(ValidationError) as caught:
        RingBody.model_validate({"y" * 5000 + str(number): 1 for number in range(100)})
    refusals = refusals_of(caught.value)
    assert len(refusals) == REFUSALS_MAX
    assert all(len(it.field) < 100 for it in refusals)


@pytest.mark.parametrize(
    ("received", "quoted"),
    [
        ('{"auth": {"username": "a", "password": "s3cret"}}', '{"auth…'),
        ('{"password": "s3cret', '{"password…'),
        ("{'PassWord': 's3cret'}", "{'PassWord…"),
        ("passwd=s3cret", "passwd…"),
        ('"sip:alice:s3cret@example.org"', '"sip:alice:…@example.org"'),
        ("SIPS:alice:s3cret", "SIPS:alice:…"),
        ("sip:" + "a" * 60 + ":" + "s3cret" * 100 + "@example.org", "sip:" + "a" * 60 + ":…"),
        ('"sip:alice@example.org:5060"', '"sip:alice@example.org:5060"'),
    ],
)
def test_no_password_is_quoted(received: str, quoted: str) -> None:
    assert quote(received) == quote(received.encode()) == quoted


def test_quoting_neither_forges_lines_nor_splits_characters() -> None:
    assert quote("a\r\nb\x1b[31m") == "a\\u000d\\u000ab\\u001b[31m"
    assert quote("é".encode() * 1000) == "é" * 80 + "…"
    assert quote(b"\xc3") == "\ufffd"
