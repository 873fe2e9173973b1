"""Signatures, with the reference library of Standard Webhooks as the judge."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from bridge.ambient import SystemClock
from bridge.errors import ConfigurationError
from bridge.webhooks.signing import new_secret, parse_secret, sign, verify

BODY = b'{"id":"evt_1","type":"call.incoming","data":{"name":"J\xc3\xbcrgen"}}'


def headers(signature: str, timestamp: int) -> dict[str, str]:
    return {"webhook-id": "evt_1", "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def now() -> int:
    return int(SystemClock().now())


def test_the_reference_library_accepts_what_we_sign() -> None:
    secret, timestamp = new_secret(), now()
    Webhook(secret).verify(BODY, headers(sign([secret], "evt_1", timestamp, BODY), timestamp))


def test_it_is_the_signature_the_reference_library_makes() -> None:
    secret, timestamp = new_secret(), 1_700_000_000
    theirs = Webhook(secret).sign("evt_1", datetime.fromtimestamp(timestamp, UTC), BODY.decode())
    assert sign([secret], "evt_1", timestamp, BODY) == theirs


def test_while_a_secret_is_rotated_the_old_and_the_new_one_verify() -> None:
    old, new, timestamp = new_secret(), new_secret(), now()
    signature = sign([new, old], "evt_1", timestamp, BODY)
    assert re.fullmatch(r"v1,\S+ v1,\S+", signature)
    for secret in (old, new):
        Webhook(secret).verify(BODY, headers(signature, timestamp))


@given(st.sampled_from(["id", "timestamp", "body", "secret"]))
def test_any_change_is_noticed(changed: str) -> None:
    secret, timestamp = new_secret(), now()
    signature = sign([secret], "evt_2" if changed == "id" else "evt_1", timestamp, BODY)
    told = headers(signature, timestamp - 1 if changed == "timestamp" else timestamp)
    verifier = Webhook(new_secret() if changed == "secret" else secret)
    with pytest.raises(WebhookVerificationError):
        verifier.verify(BODY + b" " if changed == "body" else BODY, told)


def test_secrets_are_fresh_and_long_enough() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert first.startswith("whsec_")
    assert len(parse_secret(first)) == 32


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "begins with 'whsec_'"),
        ("whsec_not base64 at all!", "base64"),
        ("whsec_c2hvcnQ=", "24 to 64 bytes, this one 5"),
        ("whsec_" + "QUJD" * 22, "24 to 64 bytes, this one 66"),
    ],
)
def test_a_wrong_secret_says_what_would_be_right_and_not_what_it_is(secret: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_secret(secret)
    assert words in str(raised.value)
    assert secret.removeprefix("whsec_") not in str(raised.value)


def test_our_verifier_agrees_with_the_reference_library() -> None:
    secret, timestamp = new_secret(), now()
    theirs = Webhook(secret).sign("evt_1", datetime.fromtimestamp(timestamp, UTC), BODY.decode())
    assert verify(secret, headers(f"v1,bm9uZQ== {theirs}", timestamp), BODY)
    assert not verify(new_secret(), headers(theirs, timestamp), BODY)
    assert not verify(secret, headers(theirs, timestamp), BODY + b" ")
    assert not verify(secret, headers(theirs, timestamp + 1), BODY)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_our_verifier_takes_no_request_with_a_header_missing(missing: str) -> None:
    secret, timestamp = new_secret(), now()
    told = headers(sign([secret], "evt_1", timestamp, BODY), timestamp)
    assert not verify(secret, {name: value for name, value in told.items() if name != missing}, BODY)
    assert not verify(secret, {**told, "webhook-timestamp": "yesterday"}, BODY)
