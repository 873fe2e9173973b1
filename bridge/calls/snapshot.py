"""A call as plain bytes, and back: what another process needs to carry it on (survival §2, §4.3).

Two parts. `fixed` is written once with the first event: the INVITE as it came and the flow it came on, from which the
call is made again by the same code that made it first. `variable` is all that changes, kept small because it is
rewritten with every event. Passwords are in there as they were sealed when they came.

Two releases read and write these side by side. Both parts are JSON with a version `v`. A release that only adds a field at
the top adds nothing to the version: one that does not know the field carries it along unread. Whatever else changes, a
field's meaning, a new value of an enumeration, something within a field, is another version, which is written only once
everybody who lives reads it (`READS`). An unknown version is refused.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from bridge.ambient import Seal
from bridge.calls.actions import from_data as action_from_data
from bridge.calls.actions import to_data as action_to_data
from bridge.calls.answering import invited
from bridge.calls.call import Call, HangUp, Identity, Link, Phase, Plan
from bridge.calls.dialing import sought
from bridge.calls.facts import ActionId, CallId, ConversationId, Ended, Move
from bridge.calls.lists import ActionList, Step
from bridge.calls.passage import Passage
from bridge.calls.referral import Referral, Replacement
from bridge.calls.reoffer import Reoffer
from bridge.calls.search import Search
from bridge.calls.transfer import Transfer
from bridge.sdp.description import MalformedSdp
from bridge.sdp.offer_answer import Negotiated
from bridge.sip.dialog import Dialog
from bridge.sip.flow import Flow
from bridge.sip.message import Request
from bridge.sip.parser import parse as parse_message
from bridge.sip.reliable import Provisionals
from bridge.sip.session_timer import Refresher, SessionTimer

READS = (1,)  # versions, ascending: this release's own and the one before; it writes each of them
VERSION = READS[-1]

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode  # nothing here can refer to itself
_text = json.encoder.encode_basestring_ascii  # one string as JSON
_BOOL = {False: "false", True: "true"}
# Of `variable`, at the top. What else is found there is a newer release's.
_KNOWN = frozenset(
    {
        *("v", "phase", "sequence", "search", "made_dialog", "reached", "dialog", "flow", "sdp", "media", "negotiated"),
        *("held", "answered_at", "actions_made", "answer_action", "ringing", "link", "peer_media", "ended"),
        *("client_state", "recovered", "move", "cause", "wait_until", "list", "answer_headers", "hangup_wanted"),
        *("video_port", "dial_failure", "muted", "on_hold", "early_media", "reoffer", "session"),
        *("session_least", "passage", "provisionals", "transfer", "referral", "replacement", "transfers"),
    }
)


class UnreadableSnapshot(Exception):  # noqa: N818 -- says what is, not that something broke
    """Written by a release we do not know, or damaged. The call is left to whoever can read it."""


def fixed(call: Call, invite: Request | None, *, listener: str = "", version: int = VERSION) -> bytes:
    """What never changes. About the size of the INVITE. `version`: one of `READS`.

    A call that we make has none of theirs, but a `listener`: the one whose identity it bears.
    """
    if invite is None:
        return _encode(
            {
                "v": version,
                "application": call.application,
                "created_at": call.created_at,
                "tag": call.tag,
                "listener": listener,
                "max_forwards": call.max_forwards,
                "max_duration_s": call.max_duration_s,
                "tags": call.tags,
            }
        ).encode("ascii")
    # Bytes that are no UTF-8 come through as lone surrogates, which JSON escapes and gives back.
    text = invite.encode().decode("utf-8", "surrogateescape")
    user = "null" if call.authenticated_as is None else _text(call.authenticated_as)
    trunk = "" if call.came_by is None else f'"trunk":{_text(call.came_by)},'
    if call.came_by_latching is not None:
        trunk += f'"latching":"{call.came_by_latching}",'
    return (
        f'{{"v":{version},{trunk}"application":{_text(call.application)},"created_at":{call.created_at!r},"tag":{_text(call.tag)},'
        f'"flow":{_flow(call.way)},"authenticated_as":{user},'
        f'"invite":{_text(text)}}}'
    ).encode("ascii")


def variable(call: Call, version: int = VERSION) -> bytes:
    """What changes: one small JSON object; fields at their first value are left out. `version`: one of `READS`.

    Written with every event of every call, so the parts that most calls have are put together by hand: a general
    encoder takes four times as long.
    """
    parts = [f'{{"v":{version},"phase":"{call.phase.value}","sequence":{call.sequence}']
    if call.search is not None:
        parts.append(_encode(_outbound(call))[1:-1])
    elif call.dialog is not None:
        ours, theirs, target = call.dialog.local_sequence, call.dialog.remote_sequence, call.dialog.remote_target
        parts.append(f'"dialog":[{ours},{"null" if theirs is None else theirs},{_text(target)}]')
        if call.dialog.flow != call.flow:
            parts.append(f'"flow":{_flow(call.dialog.flow)}')
    if call.local_sdp is not None:
        address = "null" if call.media_address is None else _text(call.media_address)
        parts.append(f'"sdp":{_text(call.local_sdp.decode("utf-8", "surrogateescape"))}')
        parts.append(f'"media":[{address},{call.media_port},{call.media_generation},{call.sdp_version}]')
    if call.negotiated is not None:
        parts.append(f'"negotiated":{_negotiated(call.negotiated)},"held":{"true" if call.held else "false"}')
    if call.answered_at is not None:
        parts.append(f'"answered_at":{call.answered_at!r}')
    if call.actions_made:
        parts.append(f'"actions_made":{call.actions_made}')
    if call.answer_action is not None:
        parts.append(f'"answer_action":{_text(call.answer_action)}')
    if call.ringing:
        parts.append('"ringing":true')
    if call.link is not None:
        parts.append(f'"link":{_link(call.link)}')
    if call.peer_media is not None:
        parts.append(f'"peer_media":{_negotiated(call.peer_media)}')
    if call.ended is not None:
        parts.append(f'"ended":{_encode([call.ended_at, call.end_action, *_ended_to_data(call.ended)])}')
    rest = _seldom(call)
    if rest:
        parts.append(_encode(rest)[1:-1])
    if call.unknown:
        parts.append(call.unknown)
    parts[-1] += "}"
    return ",".join(parts).encode("ascii")


def _outbound(call: Call) -> dict[str, Any]:
    """What only a call that we make has: it was not there when its dialog began."""
    data: dict[str, Any] = {"search": call.search.to_data() if call.search is not None else None}
    if call.dialog is not None:
        data["made_dialog"] = call.dialog.to_data()
    if call.flow is not None:  # with early media already
        data["reached"] = [call.flow.to_data(), call.via_host, call.user_agent]
    return data


def _seldom(call: Call) -> dict[str, Any]:
    """Everything a call may have, and most do not."""
    data: dict[str, Any] = {}
    if call.client_state is not None:
        data["client_state"] = call.client_state
    if call.recovered:
        data["recovered"] = call.recovered
    if call.move is not None:
        data["move"] = list(call.move)
    if call.cause is not None:
        data["cause"] = call.cause
    if call.wait_until is not None:
        data["wait_until"] = call.wait_until
    if call.list is not None:
        steps = [call.list.current, *call.list.left] if call.list.current else list(call.list.left)
        data["list"] = {
            "origin": call.list.origin,
            "begun": call.list.current is not None,
            "steps": [[step.action_id, action_to_data(step.action)] for step in steps],
        }
    if call.answer_headers:
        data["answer_headers"] = {name: list(values) for name, values in call.answer_headers.items()}
    if call.hangup_wanted is not None:
        data["hangup_wanted"] = call.hangup_wanted
    if call.video_port is not None:
        data["video_port"] = call.video_port
    if call.dial_failure is not None:
        data["dial_failure"] = call.dial_failure
    if call.muted:
        data["muted"] = True
    if call.on_hold:
        data["on_hold"] = True
    if call.early_media:
        data["early_media"] = True
    if call.session is not None:
        data["session"] = list(call.session)
    if call.provisionals is not None and call.invite is not None:
        data["provisionals"] = call.provisionals.to_data()
    if call.passage is not None:
        data["passage"] = call.passage.to_data()
    if call.session_least:
        data["session_least"] = call.session_least
    if call.transfer is not None:
        data["transfer"] = call.transfer.to_data()
    if call.referral is not None:
        data["referral"] = call.referral.to_data()
    if call.replacement is not None:
        data["replacement"] = call.replacement.to_data()
    if call.transfers:
        data["transfers"] = call.transfers
    # A refresh offers nothing new, and whoever carries the call on knows when the next one is due.
    if call.reoffer is not None and call.reoffer.purpose != "refresh":
        data["reoffer"] = call.reoffer.to_data()
    return data


def _link(link: Link) -> str:
    return (
        f'[{_text(link.peer)},"{link.how}",{_BOOL[link.asked]},{_text(link.action_id)},'
        f"{_BOOL[link.end_with_peer]},{_BOOL[link.joined]},{_BOOL[link.offered]}]"
    )


def _flow(flow: Flow) -> str:
    node = f",{_text(flow.node)}" if flow.node or flow.name else ""
    node += f",{_text(flow.name)}" if flow.name else ""
    return f"[{_text(flow.transport)},{_text(flow.listener)},{_text(flow.host)},{flow.port}{node}]"


def _negotiated(agreed: Negotiated) -> str:
    """What `Negotiated.from_data` reads, as JSON."""
    name, rate, channels, number, _ = agreed.codec
    extras = agreed.extras()
    event = "null" if agreed.telephone_event is None else agreed.telephone_event
    incoming = ",".join([str(each) for each in agreed.payload_types])
    return (
        f'{{"codec":[{_text(name)},{rate},{channels},{number}],"telephone_event":{event},'
        f'"remote":[{_text(agreed.remote_host)},{agreed.remote_port}],"direction":"{agreed.direction}",'
        f'"held":{"true" if agreed.held else "false"},"payload_types":[{incoming}]{"," + _encode(extras)[1:-1] if extras else ""}}}'
    )


def revive(
    *,
    id: CallId,  # noqa: A002 -- the public name of the field
    conversation_id: ConversationId,
    fixed: dict[str, Any],
    variable: dict[str, Any],
    plan: Plan,
    identity: Identity,
    seal: Seal,
) -> Call:
    """The call as it was when these were written. Raises `UnreadableSnapshot`.

    A password that cannot be unsealed is None in its credentials, and is written again as it came.
    """
    if "invite" in fixed:
        call = _revive_inbound(id, conversation_id, plan, identity, fixed)
    else:
        call = sought(
            id=id,
            conversation_id=conversation_id,
            plan=plan,
            identity=identity,
            tag=fixed["tag"],
            search=Search.from_data(variable["search"], seal),
            now=fixed["created_at"],
        )
        call.max_forwards, call.max_duration_s = fixed["max_forwards"], fixed["max_duration_s"]
        call.tags = tuple(fixed["tags"])
    call.phase = Phase(variable["phase"])
    call.sequence = variable["sequence"]
    call.ringing = variable.get("ringing", False)
    call.answered_at = variable.get("answered_at")
    call.actions_made = variable.get("actions_made", 0)
    call.client_state = variable.get("client_state")
    call.recovered = variable.get("recovered", 0)
    call.move = Move(*variable["move"]) if "move" in variable else None
    call.cause = variable.get("cause")
    call.wait_until = variable.get("wait_until")
    if "answer_action" in variable:
        call.answer_action = ActionId(variable["answer_action"])
        call.answer_headers = {name: tuple(values) for name, values in variable.get("answer_headers", {}).items()}
    if "list" in variable:
        call.list = _list_from_data(variable["list"], seal)
    if "hangup_wanted" in variable:
        ended_by, reason, lines, caused_by = variable["hangup_wanted"]
        call.hangup_wanted = HangUp(ended_by, reason, tuple((name, value) for name, value in lines), caused_by)
    if "provisionals" in variable:
        call.provisionals = Provisionals.from_data(variable["provisionals"])
    if "passage" in variable:
        call.passage = Passage.from_data(variable["passage"])
    _revive_session(call, variable)
    _revive_link(call, variable)
    call.unknown = unknown(variable, _KNOWN)
    if "ended" in variable:
        call.ended_at, call.end_action, *ended = variable["ended"]
        call.ended = Ended(*ended)
    return call


def _revive_inbound(
    call_id: CallId, conversation_id: ConversationId, plan: Plan, identity: Identity, fixed: dict[str, Any]
) -> Call:
    invite = parse_message(fixed["invite"].encode("utf-8", "surrogateescape"))
    if not isinstance(invite, Request):
        raise UnreadableSnapshot("the stored INVITE does not parse")
    call = invited(
        id=call_id,
        conversation_id=conversation_id,
        plan=plan,
        identity=identity,
        tag=fixed["tag"],  # the far end knows it by this one, whoever carries it on
        invite=invite,
        flow=Flow(*fixed["flow"]),
        now=fixed["created_at"],
    )
    if isinstance(call, MalformedSdp):
        raise UnreadableSnapshot("the stored offer does not parse")
    call.authenticated_as = fixed.get("authenticated_as")
    call.came_by, call.came_by_latching = fixed.get("trunk"), fixed.get("latching")
    return call


def unknown(record: Mapping[str, Any], known: Collection[str]) -> str:
    """What else it says, as the members of a JSON object; empty where there is nothing."""
    return _encode({name: value for name, value in record.items() if name not in known})[1:-1]


def read(data: bytes, reads: Collection[int] = READS) -> dict[str, Any]:
    """The JSON of one part. Raises `UnreadableSnapshot` for what is of none of these versions."""
    try:
        record = json.loads(data)
    except ValueError as problem:
        raise UnreadableSnapshot("the snapshot is not JSON") from problem
    if not isinstance(record, dict) or record.get("v") not in reads:
        raise UnreadableSnapshot("the snapshot is of another version")
    return record


def _revive_session(call: Call, variable: dict[str, Any]) -> None:
    if "reached" in variable:
        flow, call.via_host, call.user_agent = variable["reached"]
        call.flow = Flow(*flow)
    if "made_dialog" in variable:
        call.dialog = Dialog.from_data(variable["made_dialog"])
        call.sip_call_id = call.dialog.call_id
    elif "dialog" in variable and call.invite is not None:
        call.dialog = Dialog.as_server(call.invite, call.tag, call.way)
        call.dialog.local_sequence, call.dialog.remote_sequence, call.dialog.remote_target = variable["dialog"]
        call.dialog.flow = Flow(*variable.get("flow", call.way))
    if "sdp" in variable:
        call.local_sdp = variable["sdp"].encode("utf-8", "surrogateescape")
        call.media_address, call.media_port, call.media_generation, call.sdp_version = variable["media"]
        call.media_open = True
        call.video_port = variable.get("video_port")
        call.video_wanted = call.video_port is not None
    if "session" in variable:
        interval, refresher, expires_at, by_update = variable["session"]
        call.session = SessionTimer(interval, Refresher(refresher), expires_at, by_update)
    call.session_least = variable.get("session_least", 0)
    if "negotiated" in variable:
        call.negotiated = Negotiated.from_data(variable["negotiated"])
        call.held = variable.get("held", False)
    if call.phase is Phase.ANSWERED:
        call.invite = call.offer = None
        call.accept_sent = True


def _revive_link(call: Call, variable: dict[str, Any]) -> None:
    call.muted, call.on_hold = variable.get("muted", False), variable.get("on_hold", False)
    call.early_media = variable.get("early_media", False)
    if "dial_failure" in variable:
        code, reason = variable["dial_failure"]
        call.dial_failure = (code, reason)
    if "link" in variable:
        call.link = Link(*variable["link"])
    if "peer_media" in variable:
        call.peer_media = Negotiated.from_data(variable["peer_media"])
    if "reoffer" in variable:
        call.reoffer = Reoffer.from_data(variable["reoffer"])
    if "transfer" in variable:
        call.transfer = Transfer.from_data(variable["transfer"])
    if "referral" in variable:
        call.referral = Referral.from_data(variable["referral"])
    if "replacement" in variable:
        call.replacement = Replacement.from_data(variable["replacement"])
    call.transfers = variable.get("transfers", 0)


def _ended_to_data(ended: Ended) -> list[Any]:
    return [ended.by, ended.reason, ended.sip_code, ended.sip_reason, ended.q850]


def _list_from_data(data: dict[str, Any], seal: Seal) -> ActionList:
    steps = [Step(ActionId(action_id), action_from_data(action, seal)) for action_id, action in data["steps"]]
    actions = ActionList.of(data["origin"], steps)
    if data["begun"]:
        actions.take()
    return actions
