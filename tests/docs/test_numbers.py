"""Numbers that the pages repeat are those of the code."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest

from bridge.api.exchange import BODY_MAX as REQUEST_MAX
from bridge.calls.answering import _SHOWN, _SHOWN_LENGTH, _SHOWN_MOST
from bridge.calls.call import Plan
from bridge.calls.dialing import CHALLENGES_MOST
from bridge.calls.search import ATTEMPTS_MOST, REDIRECTS_MOST
from bridge.children import FORCED_STOP_S
from bridge.config import Config
from bridge.contract.actions import LIST_MAX, PARK_MAX_S, PAUSE_MAX_S
from bridge.contract.bodies import CLIENT_STATE_MAX_BYTES
from bridge.contract.dialing import DIAL_TIMEOUT_MAX_S, TARGETS_MAX, URI_MAX
from bridge.contract.originating import TAGS_MAX
from bridge.engine.seeking import UDP_MOST
from bridge.engine.settings import NodeSettings
from bridge.media.worker import Settings as WorkerSettings
from bridge.outbox.schedule import Schedule
from bridge.sdp import offer_answer as sdp
from bridge.service import REPLACED, STOP_PATIENCE_S
from bridge.settings.applications import ApplicationLimits
from bridge.sip.parser import MAX_HEADER_LINES, MAX_MESSAGE_BYTES
from bridge.store import REMEMBERED_S
from bridge.webhooks.answer import BODY_MAX as ANSWER_MAX
from tests.docs.pages import page

DEFAULTS: dict[str, Any] = {
    field.name: field.default for of in (NodeSettings, WorkerSettings, Plan) for field in fields(of)
}
CONFIG = Config()

SAID = [
    ("README.md", f"{CONFIG.limits.max_calls:,} calls per node (`limits.max_calls`)"),
    ("README.md", f"{MAX_HEADER_LINES} header lines and {MAX_MESSAGE_BYTES:,} bytes per SIP message"),
    ("README.md", f"webhook replies up to {ANSWER_MAX // 1024} KiB, REST bodies up to {REQUEST_MAX // 1024} KiB"),
    ("README.md", f"{CONFIG.webhooks.backlog_max:,} waiting events per endpoint (`webhooks.backlog_max`)"),
    ("README.md", f"{DEFAULTS['max_events_per_call']:,} events per call"),
    ("docs/configuration.md", f"REST on {CONFIG.api.listen}"),
    ("docs/configuration.md", f"| {REPLACED} | another process with the same `node_id`"),
    ("docs/webhooks.md", f"an attempt may take {DEFAULTS['webhook_timeout_s']:g} s"),
    ("docs/webhooks.md", f"waits for a decision for {DEFAULTS['decision_timeout_s']:g} s"),
    ("docs/webhooks.md", f"`webhooks.decision_timeout_s` ({CONFIG.webhooks.decision_timeout_s:g} s)"),
    ("docs/webhooks.md", f"waits, {'an hour' if PAUSE_MAX_S == 3600 else PAUSE_MAX_S} at most"),
    ("docs/webhooks.md", f"keeps the call as it is, {'a day' if PARK_MAX_S == 86_400 else PARK_MAX_S} at most"),
    ("docs/webhooks.md", f"at most {CLIENT_STATE_MAX_BYTES:,} bytes"),
    ("docs/webhooks.md", f"at most {LIST_MAX} actions"),
    ("docs/webhooks.md", f"At most {ANSWER_MAX // 1024} KiB of an answer"),
    ("docs/webhooks.md", f"{'ten' if len(Schedule().delays) == 10 else len(Schedule().delays)} attempts"),
    ("docs/webhooks.md", f"Not more than `webhooks.backlog_max` events ({CONFIG.webhooks.backlog_max:,})"),
    ("docs/webhooks.md", f"At most {DEFAULTS['in_flight_max']} attempts"),
    ("docs/webhooks.md", f"the call had {DEFAULTS['max_events_per_call']:,} events"),
    ("docs/webhooks.md", f"one target or a list of at most {TARGETS_MAX}"),
    ("docs/webhooks.md", f"at most {URI_MAX} characters"),
    (
        "docs/webhooks.md",
        f"for `timeout_s` ({'an hour' if DIAL_TIMEOUT_MAX_S == 3600 else DIAL_TIMEOUT_MAX_S} at most)",
    ),
    ("docs/rest.md", f"one target or a list of at most {TARGETS_MAX}"),
    ("docs/rest.md", f"at most {TAGS_MAX} words"),
    ("docs/rest.md", f"within {'24 hours' if REMEMBERED_S == 86_400 else REMEMBERED_S} get the first answer again"),
    ("docs/rest.md", f"may ring, {'an hour' if DIAL_TIMEOUT_MAX_S == 3600 else DIAL_TIMEOUT_MAX_S} at most"),
    ("docs/rest.md", f"at most {CLIENT_STATE_MAX_BYTES:,} bytes"),
    ("docs/rest.md", f"on `api.listen` ({CONFIG.api.listen})"),
    ("docs/sip.md", f"after {DEFAULTS['trying_after_s'] * 1000:g} ms"),
    ("docs/sip.md", f"one packet of silence leaves every {DEFAULTS['keepalive_s']:g} s"),
    ("docs/sip.md", f"`Warning: {sdp.INCOMPATIBLE_MEDIA_FORMAT}`"),
    ("docs/sip.md", f"Multicast: {sdp.MULTICAST_NOT_AVAILABLE}"),
    ("docs/sip.md", f"(SRTP): {sdp.INCOMPATIBLE_TRANSPORT_PROTOCOL}"),
    ("docs/sip.md", f"other address family: {sdp.INCOMPATIBLE_ADDRESS_FORMAT}"),
    ("docs/sip.md", f"No audio: {sdp.MEDIA_TYPE_NOT_AVAILABLE}"),
    ("docs/sip.md", f"telephone-event/8000 ({sdp.EVENTS})"),
    ("docs/sip.md", f"at most {_SHOWN_MOST} of them and {_SHOWN_LENGTH:,} characters each"),
    ("docs/sip.md", f"an attempt, with a Call-ID of its own; {ATTEMPTS_MOST} attempts at most"),
    ("docs/sip.md", f"up to {'five' if REDIRECTS_MOST == 5 else REDIRECTS_MOST} in a row"),
    ("docs/sip.md", f"above {UDP_MOST:,} bytes it leaves by TCP"),
    ("docs/sip.md", f"{'twice' if CHALLENGES_MOST == 2 else CHALLENGES_MOST} at most; also for our re-INVITE and BYE"),
    ("README.md", f"{TARGETS_MAX} targets of a `dial`"),
    ("docs/operations.md", f"Up to {'five' if STOP_PATIENCE_S == 5 else STOP_PATIENCE_S} seconds"),
    ("docs/operations.md", f"each process {'two' if FORCED_STOP_S == 2 else FORCED_STOP_S} seconds"),
    ("docs/troubleshooting.md", f"`media_timeout` after {CONFIG.media.timeout_s:g} s"),
    ("docs/troubleshooting.md", f"`ack_timeout` after {64 * CONFIG.sip.timers.t1_s:g} s"),
]


@pytest.mark.parametrize(("name", "said"), SAID)
def test_a_number_is_the_codes(name: str, said: str) -> None:
    assert said in " ".join(page(name).text.split())


def test_what_the_configuration_says_is_what_the_engine_would_do_without_it() -> None:
    """A default that stands in two places is the same in both."""
    assert CONFIG.webhooks.decision_timeout_s == DEFAULTS["decision_timeout_s"]
    assert CONFIG.webhooks.backlog_max == DEFAULTS["backlog_max"]
    assert CONFIG.limits.max_calls == DEFAULTS["max_calls"]
    assert CONFIG.media.timeout_s == DEFAULTS["timeout_s"]
    limits = ApplicationLimits()
    assert (limits.max_ring_s, limits.max_duration_s) == (DEFAULTS["ring_limit_s"], DEFAULTS["duration_limit_s"])


def test_the_headers_that_an_application_sees() -> None:
    told = page("docs/sip.md").text.partition("`X-` headers and ")[2].partition(", at most")[0]
    assert {name.lower() for name in re.split(r",\s+|\s+and\s+", told)} == _SHOWN
