"""The log: its shape, the call on its lines, and attempts to make it leak."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from bridge.calls.facts import CallId
from bridge.engine.effects import Dropped, Noted
from bridge.sip.flow import Flow
from bridge.telemetry.logging import Format, Level, configure, for_call, write

CALL = CallId("call_" + "a" * 24)


class Log:
    """What has been written so far."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def configure(self, *, level: Level = "debug", kind: Format = "json", secrets: tuple[str, ...] = ()) -> Any:
        configure(level=level, format=kind, stream=self.stream, secrets=secrets)
        return structlog.get_logger("test")

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    """Configuration is the process's: put everything back."""
    root = logging.getLogger()
    handlers, level, config = root.handlers[:], root.level, structlog.get_config()
    yield Log()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**config)


def test_a_line_is_one_json_object(log: Log) -> None:
    log.configure().info(
        "call_incoming", call=CALL, source="udp:192.0.2.7:5060", count=3, ratio=0.5, none=None, yes=True
    )
    (line,) = log.lines
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "call_incoming",
        "level": "info",
        "logger": "test",
        "call": CALL,
        "source": "udp:192.0.2.7:5060",
        "count": 3,
        "ratio": 0.5,
        "none": None,
        "yes": True,
    }


def test_the_level_is_kept(log: Log) -> None:
    logger = log.configure(level="warning")
    logger.info("quiet")
    logging.getLogger("library").info("quiet")
    logger.warning("loud")
    assert [line["event"] for line in log.lines] == ["loud"]


def test_libraries_take_the_same_way(log: Log) -> None:
    log.configure(secrets=("s3cr3t-key",))
    logging.getLogger("aiohttp.access").warning("GET %s", "/?x=s3cr3t-key")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("an old habit", stacklevel=1)
    first, second = log.lines
    assert (first["event"], first["level"], first["logger"]) == ("GET /?x=***", "warning", "aiohttp.access")
    assert "an old habit" in second["event"]


def test_what_the_engine_notes_bears_its_call(log: Log) -> None:
    logger = log.configure()
    write(logger, Noted("error", "decision_failed", CALL, (("url", "http://127.0.0.1:3000"), ("event", "evt_1"))))
    write(logger, Noted("info", "conversations_claimed", None, (("count", 2),)))
    write(logger, Dropped("malformed", Flow("udp", "udp:0.0.0.0:5060", "192.0.2.7", 5060), "no Via"))
    failed, claimed, dropped = log.lines
    assert (failed["event"], failed["level"], failed["call"], failed["event_"]) == (
        "decision_failed",
        "error",
        CALL,
        "evt_1",
    )
    assert "call" not in claimed
    assert (dropped["reason"], dropped["source"], dropped["level"]) == ("malformed", "udp:192.0.2.7:5060", "debug")


def test_a_call_has_one_name_on_every_line(log: Log) -> None:
    logger = log.configure()
    for_call(logger, CALL).info("bound")
    logger.info("by another name", call_id=CALL)
    with structlog.contextvars.bound_contextvars(call=CALL):
        logger.info("from around")
    assert [line["call"] for line in log.lines] == [CALL] * 3


def test_a_traceback_is_told(log: Log) -> None:
    logger = log.configure()
    try:
        raise ZeroDivisionError("redis://:swordfish@db:6379")
    except ZeroDivisionError:
        logger.exception("failed")
        logging.getLogger("library").exception("failed too")
    for line in log.lines:
        assert "ZeroDivisionError: redis://:***@db:6379" in line["exception"]


class Talkative:
    """An object that tells everything it knows."""

    def __repr__(self) -> str:
        return "Talkative(password='swordfish', url='https://bob:swordfish@example.org/')"


SIP = (
    "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7\r\n"
    'Authorization: Digest username="bob", response="swordfish"\r\n'
    'Proxy-Authorization: Digest username="bob", response="swordfish"\r\nCSeq: 1 REGISTER\r\n\r\n'
)
CONFIGURED = "plain-word-without-any-shape"


@pytest.mark.parametrize("kind", ["json", "console"])
@pytest.mark.parametrize(
    "leak",
    [
        {"secret": "whsec_swordfish+/=="},
        {"detail": "signed with whsec_swordfish+/== and whsec_swordfish2"},
        {"detail": "WHSEC_swordfish"},
        {"authorization": "Bearer swordfish"},
        {"Authorization": "swordfish"},
        {"headers": {"Authorization": "Basic swordfish", "Accept": "*/*"}},
        {"headers": [("authorization", "Bearer swordfish")]},
        {"headers": {b"Authorization": b"Bearer swordfish"}},
        {"headers": "Authorization: Bearer swordfish"},
        {"headers": "authorization=swordfish"},
        {"headers": {"Cookie": "swordfish"}},
        {"detail": "got `bearer\tswordfish`, expected another"},
        {"url": "redis://:swordfish@127.0.0.1:6379/0"},
        {"url": "rediss://default:sword:swordfish@redis:6379"},
        {"url": "https://bob:p@swordfish@example.org/hook?x=1"},
        {"url": "GET http://example.org/hook?token=swordfish&x=1"},
        {"url": "http://example.org/?api_key=swordfish"},
        {"uri": "sip:bob:swordfish@example.org;transport=tcp"},
        {"uri": '"Bob" <sips:bob:swordfish@example.org>;tag=1'},
        {"packet": SIP},
        {"packet": SIP.encode()},
        {"packet": bytearray(SIP.encode())},
        {"sdp": b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:swordfish|2^20"},
        {"password": "swordfish"},
        {"user": {"name": "bob", "passwd": "swordfish"}},
        {"deep": [{"deeper": ({"api_key": "swordfish"},)}]},
        {"too_deep": [[[[[[[[{"password": "swordfish"}]]]]]]]]},
        {"text": "password=swordfish"},
        {"text": 'say {"password": "swordfish", "x": 1}'},
        {"text": "Secret: 'swordfish'"},
        {"object": Talkative()},
        {"objects": [Talkative()]},
        {"error": ValueError("redis://:swordfish@db")},
        {"event_facts": {"swordfish-key whsec_swordfish": 1}},
        {"key": "swordfish"},
        {"detail": f"key {CONFIGURED} is none of ours"},
        {CONFIGURED: 1},
        {"call": CONFIGURED},
        {"api_keys": ["swordfish"]},
        {"tokens": {"a": "swordfish"}},
    ],
    ids=str,
)
def test_it_does_not_leak(log: Log, kind: Format, leak: dict[str, Any]) -> None:
    logger = log.configure(kind=kind, secrets=(CONFIGURED, "x"))
    logger.warning("attempt", **leak)
    assert "attempt" in log.text
    assert "***" in log.text
    told = log.text.replace("swordfish-key", "")
    assert "swordfish" not in told
    assert CONFIGURED not in told


def test_the_event_itself_does_not_leak(log: Log) -> None:
    log.configure(secrets=(CONFIGURED,)).info(f"connecting to redis://:swordfish@db with {CONFIGURED}")
    assert log.lines[0]["event"] == "connecting to redis://:***@db with ***"


@pytest.mark.parametrize(
    "text",
    [
        "sip:desk@example.com:5060;transport=udp",
        "http://127.0.0.1:3000/calls",
        "udp:[2001:db8::7]:5060",
        "the application answered 503; see http://127.0.0.1:3000/calls",
        "1-2345@192.0.2.7",
        "call.incoming at 2026-11-22T09:00:00.000Z",
    ],
)
def test_what_is_no_secret_stays(log: Log, text: str) -> None:
    log.configure(secrets=("x", "")).info("told", detail=text)
    assert log.lines[0]["detail"] == text


@pytest.mark.parametrize("text", ["a\r\n2026 [error] forged", "\x1b[2J\x1b[31mred", "a\u2028b", "\x07\x00"])
def test_nothing_moves_the_cursor_of_a_terminal(log: Log, text: str) -> None:
    logger = log.configure(kind="console")
    logger.info("told", detail=text, nested={"name": [text]})
    (line,) = log.text.removesuffix("\n").split("\n")
    assert line.isprintable()


def test_bytes_that_are_no_text_are_told_all_the_same(log: Log) -> None:
    log.configure().info("told", detail=b"caf\xe9".decode("utf-8", "surrogateescape"), raw=b"caf\xe9")
    assert log.lines[0]["raw"] == "caf\ufffd"


def test_a_line_has_an_end(log: Log) -> None:
    log.configure().info("told", detail="x" * 1_000_000, many=list(range(10_000)))
    assert len(log.text) < 10_000


class Broken(io.StringIO):
    """A terminal that has gone away."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_a_log_that_cannot_be_written_harms_nobody(log: Log) -> None:
    log.stream = Broken()
    log.configure().info("told")
    log.stream = io.StringIO()
    logger = log.configure()
    log.stream.close()
    logger.info("told")
