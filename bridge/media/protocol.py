"""What signalling and a media worker say to each other: one JSON object per packet of a Unix SOCK_SEQPACKET connection.

Signalling says                        the worker answers
    hello    v, minor                      hello     v, minor, worker, pid, ports, skipped, relay
                                                     (first on each connection)
    reserve  count                         reserved  ports                 (as many as there are; they are lent from now)
    open     session                       opened    session, port         or  no_port  session
    open     session, port, rule?, via?    (nothing; no_port where this port is not reserved)
    reopen   session, port, rule?, via?    opened    session, port         or  no_port  session
    rule     session, rule, via?           (nothing)
    close    session                       closed    session, quality      (null: no such session)
    list                                   listed    sessions, free, more  (as many as needed; `more` false on the last)
    heartbeat  each second                 stats     each second: free, open, totals
                                           timed_out session
                                           dtmf      session, digit, duration_ms
                                           error     reason                (what was said made no sense; nothing changed)

`worker` names one run of a worker process, so signalling knows a restarted one from one it has merely lost sight of.
Reserved ports belong to the connection they were asked for on: when it ends they are free again. With them `open` needs no
answer, and carries the first rule along: an answered call costs two packets to the worker and one back, not three and two.
`reopen` asks for the port that a session had in another run of the worker: the far end goes on sending there.
A rule names the session that it relays to. Where that lives in another worker, `via` is what this one has said as `relay`.

Every command may be repeated: `open` of an open session names the same port, a `rule` older than the one in force (by
its generation) is ignored, and so is a `close` of what is closed. Kinds and fields that are not known are ignored;
another major version `v` is refused by both ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

from bridge.rtp.quality import Quality
from bridge.rtp.rules import Rule

MAJOR = 1
MINOR = 3
MAX_MESSAGE = 64 * 1024
LISTED_AT_ONCE = 100  # sessions in one `listed`

Message: TypeAlias = dict[str, object]

# What a rule says that was written before minor version 3.
_RELAYS_NOTHING: Message = {
    "relay_to": None,
    "payload_map": [],
    "muted": False,
    "dtmf_payload_types": [],
    "relays_rtcp": True,
}

# Made once: json.dumps with separators makes an encoder per call. Nothing here can refer to itself.
_to_text = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_from_text = json.JSONDecoder().decode


def encode(message: Mapping[str, object]) -> bytes:
    """One packet."""
    return _to_text(message).encode("ascii")


def decode(data: bytes | memoryview) -> Message | None:
    """The message in a packet; None when it is not one JSON object with a text `type`."""
    try:
        message = _from_text(str(data, "utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return None
    return message


def rule_to_data(rule: Rule) -> Message:
    """A rule as JSON's types."""
    return {
        "remote_host": rule.remote_host,
        "remote_port": rule.remote_port,
        "sources": rule.sources,
        "latching": rule.latching,
        "behind_nat": rule.behind_nat,
        "payload_types": rule.payload_types,
        "silence_payload_type": rule.silence_payload_type,
        "clock_rate": rule.clock_rate,
        "generation": rule.generation,
        "expects_media": rule.expects_media,
        "relay_to": rule.relay_to,
        "payload_map": rule.payload_map,
        "muted": rule.muted,
        "dtmf_payload_types": rule.dtmf_payload_types,
        "relays_rtcp": rule.relays_rtcp,
    }


def rule_from_data(data: object) -> Rule | None:
    """The reverse of `rule_to_data`; None when a field is missing or of the wrong kind."""
    match {**_RELAYS_NOTHING, **data} if isinstance(data, dict) else None:
        case {
            "remote_host": str() | None as remote_host,
            "remote_port": int(remote_port),
            "sources": [*sources],
            "latching": "strict" | "learn" | "off" as latching,
            "behind_nat": bool(behind_nat),
            "payload_types": [*payload_types],
            "silence_payload_type": int() | None as silence_payload_type,
            "clock_rate": int(clock_rate),
            "generation": int(generation),
            "expects_media": bool(expects_media),
            "relay_to": str() | None as relay_to,
            "payload_map": [*payload_map],
            "muted": bool(muted),
            "dtmf_payload_types": [*dtmf_payload_types],
            "relays_rtcp": bool(relays_rtcp),
        } if clock_rate > 0 and 0 <= remote_port <= 0xFFFF:
            return Rule(
                remote_host=remote_host,
                remote_port=remote_port,
                sources=tuple([str(source) for source in sources]),
                latching=latching,
                behind_nat=behind_nat,
                payload_types=tuple([number for number in payload_types if isinstance(number, int)]),
                silence_payload_type=silence_payload_type,
                clock_rate=clock_rate,
                generation=generation,
                expects_media=expects_media,
                relay_to=relay_to,
                payload_map=tuple([mapped for pair in payload_map if (mapped := _mapped(pair)) is not None]),
                muted=muted,
                dtmf_payload_types=tuple([number for number in dtmf_payload_types if isinstance(number, int)]),
                relays_rtcp=relays_rtcp,
            )
    return None


def _mapped(pair: object) -> tuple[int, int] | None:
    """A payload type that comes and one that leaves, as one byte can hold them beside the marker."""
    match pair:
        case [int(comes), int(leaves)] if 0 <= comes <= 0x7F and 0 <= leaves <= 0x7F:
            return comes, leaves
    return None


def quality_to_data(quality: Quality) -> Message:
    """The figures of a closed session as JSON's types."""
    return {name: getattr(quality, name) for name in Quality.__slots__}
