"""Whom to call: what is a target, who may call it, and that passwords go in and never come out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.calls.actions import Credentials, Hangup, Pause, Target
from bridge.calls.facts import CallId, ConversationId
from bridge.contract.bodies import Body
from bridge.contract.dialing import NO_ROUTE, TARGETS_MAX, URI_MAX, DialBody
from bridge.contract.originating import TAG_MAX, TAGS_MAX, OriginateBody
from bridge.contract.refusals import refusals_of
from bridge.engine.commit import Claim
from bridge.engine.inputs import Originate

BOB = "sip:bob@example.com"
SECRET = "s3cret, very"
CONVERSATION = "conv_" + "c" * 24


def refused(model: type[Body], **given: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(json.dumps(given))
    return [str(each) for each in refusals_of(caught.value)]


def types(**given: object) -> set[str]:
    with pytest.raises(ValidationError) as caught:
        DialBody.model_validate_json(json.dumps(given))
    return {found["type"] for found in caught.value.errors()}


class TestTargets:
    @pytest.mark.parametrize(
        "uri",
        [
            BOB,
            "sips:bob@example.com",
            "sip:example.com",
            "SIP:bob@192.0.2.7:5070;transport=tcp",
            "sip:+4930123456;phone-context=x@[2001:db8::7];user=phone",
            "sip:b%C3%B6b@example.com",
        ],
    )
    def test_a_sip_uri_is_taken_as_it_is(self, uri: str) -> None:
        assert DialBody.model_validate({"to": uri}).to_action().to == (Target(uri),)

    def test_several_are_mixed_in_their_order(self) -> None:
        to = [BOB, {"uri": "sips:carol@example.com", "auth": {"username": "c", "password": "p"}}, {"uri": BOB}]
        body = DialBody.model_validate_json(json.dumps({"to": to}))
        assert body.to_action().to == (
            Target(BOB),
            Target("sips:carol@example.com", Credentials("c", "p")),
            Target(BOB),
        )

    @pytest.mark.parametrize("number", ["100", "+4930123456", "+49 (30) 123-456", "*21#", "tel:+4930123456", "TEL:100"])
    def test_a_number_has_no_route(self, number: str) -> None:
        assert types(to=number) == types(to=[number]) == types(to={"uri": number}) == {NO_ROUTE}

    @pytest.mark.parametrize("uri", ["bob@example.com", "example.com", "localhost:5060", "bob", "mailto:b@example.com"])
    def test_a_scheme_is_not_guessed(self, uri: str) -> None:
        (said,) = refused(DialBody, to=uri)
        assert said.startswith("to: should begin with `sip:` or `sips:`")

    @pytest.mark.parametrize(
        ("uri", "said"),
        [
            ("", "should be a `sip:`"),
            ("sip:", "should be a `sip:`"),
            ("<sip:bob@example.com>", "should be a `sip:`"),
            ("sip:bob@example.com:70000", "should be a `sip:`"),
            ("sip:bob@exam ple.com", "should be a `sip:`"),
            ("sip:bob\x00@example.com", "must be one line"),
            ("sip:böb@example.com", "should be ASCII"),
            ("sip:bob:pass@example.com", "should have no password"),
            ("sip:bob@example.com?Route=%3Csip:x%3E", "should have no headers"),
            ("sip:" + "b" * URI_MAX + "@example.com", "string should have at most"),
        ],
    )
    def test_what_a_request_line_cannot_have_is_refused(self, uri: str, said: str) -> None:
        assert refused(DialBody, to=uri)[0].startswith(f"to: {said}")
        assert refused(DialBody, to=[BOB, uri])[0].startswith(f"to.1: {said}")
        assert refused(DialBody, to=[BOB, {"uri": uri}])[0].startswith(f"to.1.uri: {said}")

    @pytest.mark.parametrize(
        ("to", "said"),
        [
            (None, "to: should be a URI, an object with one, or a list of those; received null"),
            (5, "to: should be a URI, an object with one, or a list of those; received 5"),
            ([5], "to.0: should be a URI or an object with one; received 5"),
            ([[BOB]], "to.0: should be a URI or an object with one"),
            ([], "to: list should have at least 1 item"),
            ([BOB] * (TARGETS_MAX + 1), f"to: list should have at most {TARGETS_MAX} items"),
            ({}, "to.uri: required"),
            ({"uri": BOB, "trunk": "a b"}, "to.trunk: string should match"),
            ({"uri": "abc", "trunk": "carrier"}, "to.uri: should begin with `sip:` or `sips:`"),
            ([BOB, {"uri": BOB, "hold": 1}], "to.1.hold: unknown field"),
            ({"uri": BOB, "headers": {"Via": "x"}}, "to.headers.Via: is a header that this service sets itself"),
            ({"uri": BOB, "headers": {"X-A": "a\r\nVia: b"}}, "to.headers.X-A.0: must be one line"),
            ({"uri": BOB, "auth": {"username": "a"}}, "to.auth.password: required"),
            (
                {"uri": BOB, "auth": {"username": "", "password": "p"}},
                "to.auth.username: string should have at least 1",
            ),
            ({"uri": BOB, "auth": {"username": "a\nb", "password": "p"}}, "to.auth.username: must be one line"),
        ],
    )
    def test_the_wrong_field_is_named(self, to: object, said: str) -> None:
        assert refused(DialBody, to=to)[0].startswith(said)
        assert refused(OriginateBody, to=to)[0].startswith(said)

    def test_somebody_has_to_be_called(self) -> None:
        assert refused(DialBody) == ["to: required"]


class TestCaller:
    @pytest.mark.parametrize(
        ("given", "taken"),
        [
            (BOB, BOB),
            ("<sip:bob@example.com>", "<sip:bob@example.com>"),
            ('"Bob B." <sip:bob@example.com;user=phone>', '"Bob B." <sip:bob@example.com;user=phone>'),
            ("Bob <sip:bob@example.com>", '"Bob" <sip:bob@example.com>'),
            ('"Böb" <sips:bob@example.com>', '"Böb" <sips:bob@example.com>'),
            ("sip:bob@example.com;user=phone", "<sip:bob@example.com;user=phone>"),
        ],
    )
    def test_who_calls_is_a_uri_with_or_without_a_name(self, given: str, taken: str) -> None:
        assert DialBody.model_validate({"to": BOB, "from": given}).to_action().from_ == taken

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("+4930123456", "should be a `sip:`"),
            ("bob@example.com", "should begin with `sip:`"),
            ("tel:+4930", "should be"),
            ('"Bob" <bob@example.com>', "should be"),
            ('"Bob <sip:bob@example.com>', "should be"),
            ("<sip:bob@example.com>;tag=1", "should have nothing behind its URI"),
            ("Bob\r\nVia: x <sip:bob@example.com>", "must be one line"),
            ("Bob <sip:bob:pass@example.com>", "should have no password"),
        ],
    )
    def test_what_a_from_header_cannot_have_is_refused(self, given: str, said: str) -> None:
        (finding,) = refused(DialBody, to=BOB, **{"from": given})
        assert finding.startswith(f"from: {said}")
        assert NO_ROUTE not in types(to=BOB, **{"from": given})


class TestPasswords:
    def test_one_goes_in_and_never_comes_out(self) -> None:
        to = {"uri": BOB, "auth": {"username": "alice", "password": SECRET}}
        body = DialBody.model_validate_json(json.dumps({"to": [to]}))
        action = body.to_action()
        assert action.to[0].auth == Credentials("alice", SECRET)
        shown = f"{body!r} {body} {body.model_dump()} {body.model_dump_json()} {action!r}"
        assert SECRET not in shown
        assert [password.get_secret_value() for password in body.passwords] == [SECRET]

    def test_one_process_hands_it_to_the_next(self) -> None:
        to = {"uri": BOB, "auth": {"username": "alice", "password": SECRET}}
        body = DialBody.model_validate({"to": to})
        text = body.model_dump_json(by_alias=True, context={"reveal": True})
        assert DialBody.model_validate_json(text).to_action() == body.to_action()

    @pytest.mark.parametrize(
        "to",
        [
            {"uri": "nobody", "auth": {"username": "alice", "password": SECRET}},
            {"uri": BOB, "auth": {"username": 5, "password": SECRET}},
            {"uri": BOB, "auth": {"username": "alice", "password": SECRET * 100}},
            {"uri": BOB, "auth": {"username": "alice", "password": [SECRET]}},
            {"uri": BOB, "auth": f"alice:{SECRET}"},
            {"uri": BOB, "auth": {"user": "alice", "password": SECRET}},
            [[{"password": SECRET}]],
            [{"auth": {"username": "alice", "password": SECRET}}] * (TARGETS_MAX + 1),
            "sip:alice:s3cret@example.com",
        ],
    )
    def test_a_refusal_does_not_repeat_it(self, to: Any) -> None:
        said = " ".join(refused(DialBody, to=to))
        assert said
        assert "s3c" not in said


class TestOriginate:
    def test_what_is_not_said_has_its_default(self) -> None:
        made = OriginateBody.model_validate({"to": BOB}).to_originate(7, CallId("call_x"), None)
        assert made == Originate(
            request=7,
            call=CallId("call_x"),
            application="default",
            to=(Target(BOB),),
            from_=None,
            timeout_s=60.0,
            max_duration_s=None,
            fork="parallel",
            on_redirect="follow",
            client_state=None,
            tags=(),
            conversation=None,
            actions=(),
            claim=None,
        )

    def test_everything_that_is_said_is_handed_on(self) -> None:
        body = {
            "to": [BOB],
            "from": "sip:desk@example.com",
            "application": "sales",
            "timeout_s": 20,
            "max_duration_s": 600,
            "fork": "serial",
            "on_redirect": "report",
            "client_state": "x",
            "tags": ["vip", "Köln"],
            "conversation_id": CONVERSATION,
            "actions": [{"action": "pause", "seconds": 1}, {"action": "hangup"}],
        }
        claim = Claim("ops:k", "f")
        assert OriginateBody.model_validate_json(json.dumps(body)).to_originate(
            8, CallId("call_y"), claim
        ) == Originate(
            request=8,
            call=CallId("call_y"),
            application="sales",
            to=(Target(BOB),),
            from_="sip:desk@example.com",
            timeout_s=20.0,
            max_duration_s=600.0,
            fork="serial",
            on_redirect="report",
            client_state="x",
            tags=("vip", "Köln"),
            conversation=ConversationId(CONVERSATION),
            actions=(Pause(seconds=1.0), Hangup()),
            claim=claim,
        )

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"answer_caller": "now"}, "answer_caller: unknown field"),
            ({"application": ""}, "application: string should have at least 1"),
            ({"max_duration_s": 0}, "max_duration_s: should be greater than 0"),
            ({"timeout_s": 3601}, "timeout_s: should be less than or equal to 3600"),
            ({"timeout_s": "60"}, "timeout_s: should be a valid number"),
            ({"fork": "all"}, "fork: should be 'parallel' or 'serial'"),
            ({"tags": ["x" * (TAG_MAX + 1)]}, "tags.0: string should have at most"),
            ({"tags": ["a\nb"]}, "tags.0: must be one line"),
            ({"tags": ["x"] * (TAGS_MAX + 1)}, "tags: list should have at most"),
            ({"conversation_id": "call_x"}, "conversation_id: string should match pattern"),
            ({"actions": [{"action": "dance"}]}, "actions.0.action: unknown action"),
            ({"actions": [{"action": "dial", "to": "x y"}]}, "actions.0.to: should be a `sip:`"),
        ],
    )
    def test_the_wrong_field_is_named(self, given: dict[str, Any], said: str) -> None:
        with pytest.raises(ValidationError) as caught:
            OriginateBody.model_validate_json(json.dumps({"to": BOB, **given}))
        assert str(refusals_of(caught.value, tags=frozenset({"dial"}))[0]).startswith(said)
