"""The metrics by their binding names."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.outbox.schedule import Outcome
from bridge.telemetry.metrics import Metrics

# contract §7
NAMES = {
    "bridge_calls": {"state", "direction"},
    "bridge_call_capacity": set(),
    "bridge_calls_ended_total": {"reason"},
    "bridge_setup_seconds": set(),
    "bridge_sip_messages_total": {"direction", "method", "code_class"},
    "bridge_dropped_total": {"reason"},
    "bridge_registrations": set(),
    "bridge_authentications_failed_total": {"reason"},
    "bridge_source_bans_total": set(),
    "bridge_webhook_backlog": {"endpoint"},
    "bridge_webhook_attempts_total": {"outcome"},
    "bridge_webhook_seconds": set(),
    "bridge_store_seconds": set(),
    "bridge_loop_lag_seconds": set(),
    "bridge_media_ports_free": set(),
    "bridge_media_packets_total": set(),
    "bridge_takeovers_total": set(),
    "bridge_snapshots_unreadable_total": set(),
    "bridge_lease_lost_total": set(),
    "bridge_tls_certificate_expiry_seconds": set(),
}
# and beside it
NAMES |= {"bridge_sip_connections": set(), "bridge_store_unreplicated_total": {"write"}}


def read(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.exposition()[1].decode())
    return {(it.name, frozenset(it.labels.items())): it.value for family in families for it in family.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return read(metrics).get((name, frozenset(labels.items())))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(endpoints=["front-desk"])


@pytest.mark.parametrize(("name", "labels"), NAMES.items(), ids=NAMES)
def test_every_name_is_there_from_the_start_with_its_labels(metrics: Metrics, name: str, labels: set[str]) -> None:
    found = [
        {key for key, _ in given if key != "le"}
        for (each, given) in read(metrics)
        if re.fullmatch(f"{name}(_count)?", each)
    ]
    assert found
    assert all(each == labels for each in found)


def test_there_is_nothing_else_of_ours(metrics: Metrics) -> None:
    ours = {re.sub("_(bucket|sum|count)$", "", name) for name, _ in read(metrics) if name.startswith("bridge_")}
    assert ours == set(NAMES)


def test_two_services_share_nothing(metrics: Metrics) -> None:
    other = Metrics()
    other.takeovers.inc()
    assert value(metrics, "bridge_takeovers_total") == 0


def message(start: str, *headers: str) -> bytes:
    return "\r\n".join((start, "Via: SIP/2.0/UDP 192.0.2.7", *headers, "", "")).encode()


@pytest.mark.parametrize(
    ("data", "method", "code_class"),
    [
        (message("INVITE sip:desk@example.com SIP/2.0", "CSeq: 1 INVITE"), "INVITE", "request"),
        (message("ACK sip:desk@example.com SIP/2.0", "CSeq: 1 ACK"), "ACK", "request"),
        (message("INVENTED sip:desk@example.com SIP/2.0", "CSeq: 1 INVENTED"), "other", "request"),
        (message("SIP/2.0 200 OK", "CSeq: 1 INVITE", "To: x"), "INVITE", "2xx"),
        (message("SIP/2.0 180 Ringing", "CSeq:  2   BYE "), "other", "1xx"),
        (message("SIP/2.0 486 Busy Here", "CSeq: 314159 BYE"), "BYE", "4xx"),
        (message("SIP/2.0 699 Very Odd"), "other", "6xx"),
        (b"SIP/2.0 999 x\r\n\r\n", "other", "request"),
        (b"SIP/2.0 ", "other", "request"),
        (b"", "other", "request"),
        (b"\x00" * 1500, "other", "request"),
    ],
)
def test_messages_are_counted_by_closed_lists(metrics: Metrics, data: bytes, method: str, code_class: str) -> None:
    before = len(read(metrics))
    metrics.sip_message("in", data)
    assert value(metrics, "bridge_sip_messages_total", direction="in", method=method, code_class=code_class) == 1
    assert len(read(metrics)) == before


@pytest.mark.parametrize(
    ("outcome", "label"),
    [
        (Outcome(200, None, None, 0.01), "2xx"),
        (Outcome(302, None, None, 0.01), "3xx"),
        (Outcome(503, None, 3.0, 0.01), "5xx"),
        (Outcome(200, "too_large", None, 0.01), "too_large"),
        (Outcome(None, "timeout", None, 10.0), "timeout"),
        (Outcome(999, None, None, 0.01), "other"),
        (Outcome(None, None, None, 0.01), "other"),
    ],
)
def test_attempts_are_counted_by_what_came_of_them(metrics: Metrics, outcome: Outcome, label: str) -> None:
    metrics.webhook_attempt(outcome)
    assert value(metrics, "bridge_webhook_attempts_total", outcome=label) == 1
    assert value(metrics, "bridge_webhook_seconds_count") == 1
    assert value(metrics, "bridge_webhook_seconds_sum") == outcome.took_s


def test_ends_are_counted_by_their_reason(metrics: Metrics) -> None:
    metrics.call_ended("hangup")
    metrics.call_ended("not a listed one")
    assert value(metrics, "bridge_calls_ended_total", reason="hangup") == 1
    assert value(metrics, "bridge_calls_ended_total", reason="other") == 1


def test_reasons_for_dropping_cannot_grow_without_end(metrics: Metrics) -> None:
    metrics.dropped("stray_ack")
    metrics.dropped("stray_ack")
    assert value(metrics, "bridge_dropped_total", reason="stray_ack") == 2
    before = len(read(metrics))
    for number in range(1000):
        metrics.dropped(f"reason_{number}")
    assert len(read(metrics)) < before + 150
    assert (value(metrics, "bridge_dropped_total", reason="other") or 0) > 800


def test_packets_are_a_counter_even_when_a_worker_begins_anew(metrics: Metrics) -> None:
    for total in (100, 150, 30, 40):
        metrics.media_packets(total)
    assert value(metrics, "bridge_media_packets_total") == 190


def test_gauges_are_set(metrics: Metrics) -> None:
    metrics.calls["answered", "inbound"].set(7)
    metrics.webhook_backlog("front-desk").set(3)
    metrics.media_ports_free.set(500)
    assert value(metrics, "bridge_calls", state="answered", direction="inbound") == 7
    assert value(metrics, "bridge_webhook_backlog", endpoint="front-desk") == 3
    assert value(metrics, "bridge_media_ports_free") == 500


def test_gauges_that_nobody_needs_between_scrapes_are_set_by_the_scrape(metrics: Metrics) -> None:
    metrics.on_scrape = lambda: metrics.call_capacity.set(42)
    assert value(metrics, "bridge_call_capacity") == 42


def test_no_metric_is_labelled_with_a_call(metrics: Metrics) -> None:
    assert not {key for _, labels in read(metrics) for key, _ in labels} & {"call", "call_id", "conversation", "user"}
