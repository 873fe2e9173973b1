from __future__ import annotations

from typing import get_args

import pytest

from bridge.outbox.health import advice, mask_url
from bridge.outbox.schedule import Error, Outcome
from tests.outbox.bench import Invalid

URL = "http://127.0.0.1:3000/calls"


def outcome(status: int | None = None, error: Error | None = None, detail: str = "", took_s: float = 0.01) -> Outcome:
    return Outcome(status, error, None, took_s, b"", detail)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (outcome(error="refused"), ["nothing listens at http://127.0.0.1:3000", "Is the application running there?"]),
        (outcome(error="timeout", took_s=10.0), [URL, "did not answer within 10.0 s", "Answer first"]),
        (outcome(200, "timeout", took_s=10.0), ["began an answer and did not end it within 10.0 s"]),
        (outcome(error="dns"), ["host name", "spelled right"]),
        (outcome(error="tls", detail="self-signed certificate"), ["certificate", "(self-signed certificate)"]),
        (outcome(error="closed"), ["closed the connection", "the application's log"]),
        (outcome(200, "too_large"), ["64 KiB"]),
        (outcome(404), ["http://127.0.0.1:3000 is there but knows no such path", "Check the path", "404"]),
        (outcome(401), ["Verify the signature with the secret configured here", "401"]),
        (outcome(405), ["POST"]),
        (outcome(410), ["no more webhooks until it is configured anew"]),
        (
            outcome(302, detail="http://127.0.0.1:3000/login"),
            ["redirects (302) to http://127.0.0.1:3000/login", "final URL"],
        ),
        (outcome(500), ["failed (500)", "log"]),
        (outcome(418), ["418", "2xx"]),
    ],
)
def test_each_failure_says_what_to_do(given: Outcome, words: list[str]) -> None:
    line = advice(URL, given)
    assert [word for word in words if word not in line] == []
    assert "\n" not in line
    assert line.endswith((".", "?"))


@pytest.mark.parametrize("error", get_args(Error))
def test_no_error_is_without_advice(error: Error) -> None:
    assert URL.rpartition("/")[0] in advice(URL, outcome(error=error)) or error == "canceled"


def test_an_invalid_reply_names_the_field() -> None:
    line = advice(URL, outcome(200), Invalid())
    assert "`actions.0.code`" in line
    assert "should be a number from 400 to 699, not 'busy'" in line


def test_what_a_server_says_cannot_break_the_line_or_the_template() -> None:
    line = advice(URL, outcome(error="tls", detail="bad\r\nhandshake {origin} {nothing}"))
    assert line.endswith("(bad handshake {origin} {nothing}).")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://app.test/calls", "https://app.test/calls"),
        ("https://alice:s3cret@app.test:8443/calls", "https://***@app.test:8443/calls"),
        ("https://s3cret@app.test/", "https://***@app.test/"),
        ("https://app.test/calls?token=s3cret&x=1&s3cret", "https://app.test/calls?token=***&x=***&***"),
        ("https://app.test/calls#s3cret", "https://app.test/calls"),
        ("http://[s3cret/", "(a URL that cannot be read)"),
        ("http://[::1]:3000/calls", "http://[::1]:3000/calls"),
    ],
)
def test_urls_are_shown_without_their_secrets(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize("given", [outcome(error="refused"), outcome(error="timeout"), outcome(404), outcome(500)])
def test_no_advice_shows_a_secret(given: Outcome) -> None:
    assert "s3cret" not in advice("http://alice:s3cret@app.test/calls?key=s3cret", given)
