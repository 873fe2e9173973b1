from __future__ import annotations

from base64 import b64decode

import pytest

from bridge.webhooks.target import Origin, Target, read_target


def target(url: str) -> Target:
    found = read_target(url, "test/1")
    assert isinstance(found, Target), found
    return found


def lines(url: str) -> list[str]:
    return target(url).head.decode("ascii").split("\r\n")


@pytest.mark.parametrize(
    ("url", "origin", "request_line", "host"),
    [
        ("http://app.test/calls", Origin("app.test", 80, False), "POST /calls HTTP/1.1", "Host: app.test"),
        ("https://app.test", Origin("app.test", 443, True), "POST / HTTP/1.1", "Host: app.test"),
        ("http://127.0.0.1:3000/a?b=c&d", Origin("127.0.0.1", 3000, False), "POST /a?b=c&d HTTP/1.1", "Host: 127.0.0.1:3000"),
        ("http://[::1]:3000/", Origin("::1", 3000, False), "POST / HTTP/1.1", "Host: [::1]:3000"),
        ("HTTP://App.Test/#part", Origin("app.test", 80, False), "POST / HTTP/1.1", "Host: app.test"),
        ("http://bücher.test/ü?q=ä", Origin("xn--bcher-kva.test", 80, False), "POST /%C3%BC?q=%C3%A4 HTTP/1.1", "Host: xn--bcher-kva.test"),
        ("http://app.test/a b%20c", Origin("app.test", 80, False), "POST /a%20b%20c HTTP/1.1", "Host: app.test"),
    ],
)  # fmt: skip
def test_a_url_becomes_an_origin_and_a_head(url: str, origin: Origin, request_line: str, host: str) -> None:
    assert target(url).origin == origin
    assert lines(url)[:2] == [request_line, host]


def test_credentials_become_a_header_and_nothing_else() -> None:
    found = lines("https://al%40ice:s3c%3Aret@app.test/calls")
    assert [line for line in found if "al%40ice" in line or "s3c" in line] == []
    scheme, _, value = next(line for line in found if line.startswith("Authorization: ")).rpartition(" ")
    assert (scheme, b64decode(value)) == ("Authorization: Basic", b"al@ice:s3c:ret")


@pytest.mark.parametrize(
    "url",
    ["ftp://app.test/", "app.test/calls", "http:///calls", "http://[::1/", "http://app.test:port/", "http://:80/", "http://a b/", ""],
)  # fmt: skip
def test_what_is_no_webhook_url_says_why(url: str) -> None:
    assert isinstance(read_target(url, "test/1"), str)


@pytest.mark.parametrize("url", ["http://app.test/\r\nX: y", "http://app.test/?a\r\nX: y", "http://app.test\r\nX: y/"])
def test_no_url_adds_a_header(url: str) -> None:
    found = read_target(url, "test/1")
    assert isinstance(found, str) or not [line for line in found.head.split(b"\r\n") if line.startswith(b"X")]


@pytest.mark.parametrize(
    "url", ["http://alice:s3cret@[::1/", "http://alice:s3cret@a℀b/", "ftp://alice:s3cret@app.test/"]
)
def test_what_is_wrong_is_told_without_the_credentials(url: str) -> None:
    found = read_target(url, "test/1")
    assert isinstance(found, str)
    assert "s3cret" not in found
