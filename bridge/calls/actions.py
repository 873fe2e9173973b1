"""What an application may ask of a call. One vocabulary for three entrances: the reply to a decision webhook, REST, and
the actions of an originated call.

Plain values: `contract` reads them from JSON and checks their fields, `lists` runs them, `call` carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeAlias

from bridge.ambient import Seal
from bridge.calls.facts import Contact
from bridge.rtp.rules import Latching


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """Send 180 Ringing. Done when sent; ends in `action.completed`."""

    name: ClassVar[str] = "ring"
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Send 200 with our SDP. Done when its ACK came; told by `call.answered`."""

    name: ClassVar[str] = "answer"
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # extra headers of the 200
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """Send a final 4xx, 5xx or 6xx response. Done when the call has ended; told by `call.ended`."""

    name: ClassVar[str] = "reject"
    code: int = 480
    reason: str | None = None  # the reason phrase; None: the RFC's own
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Send a 3xx response that names where else to look (§8.3). Done when the call has ended; told by `call.redirected`."""

    name: ClassVar[str] = "redirect"
    contacts: tuple[Contact, ...]  # of a 305 one, the proxy; of a 380 perhaps none
    code: int = 302  # 300, 301, 302, 305 or 380
    reason: str | None = None  # the reason phrase; None: the RFC's own
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # extra headers of the response
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Pass the INVITE on as a stateful proxy (§16). Done when the final response has passed; told by `call.proxied`."""

    name: ClassVar[str] = "proxy"
    targets: tuple[Contact, ...] = ()  # empty: whom the caller has asked for
    fork: Literal["parallel", "serial"] = "parallel"
    record_route: bool = False  # stay on the way of the dialog that it makes
    timeout_s: float = 60.0  # how long those who are tried at once may ring
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Wait, then go on with the list. In lists only."""

    name: ClassVar[str] = "pause"
    seconds: float = 1.0
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """Keep the call as it is until a REST action comes. After `timeout_s` seconds the fallback plan runs."""

    name: ClassVar[str] = "park"
    timeout_s: float = 60.0
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hangup:
    """End the call by whatever is right now: a final response or BYE. Told by `call.ended`."""

    name: ClassVar[str] = "hangup"
    reason: str | None = None  # text of a Reason header (RFC 3326)
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    client_state: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What we prove ourselves with where a target asks for it (RFC 7616)."""

    username: str
    password: str | None = field(repr=False)  # None: it was sealed with a key that we do not have
    sealed: str = field(
        default="", repr=False, compare=False
    )  # the password as the store may have it; "": not made yet


@dataclass(frozen=True, slots=True)
class Target:
    """One place to look for a party."""

    uri: str  # sip: or sips:; an address of record of ours stands for all its contacts; tel: by a trunk only
    auth: Credentials | None = None
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # extra headers of its INVITE
    trunk: str = ""  # the name of the trunk that it is called by; empty: by none
    # What the trunk has to say, once the attempt has begun: whoever carries it on needs no trunk for it.
    from_: str = ""  # the From of its INVITE, a name-addr without a tag; empty: that of the search
    next_on: tuple[int, ...] = ()  # final responses, besides 5xx, after which the trunk's next server is asked
    has_place: bool = False  # whether it counts against the trunk's calls at once
    latching: Latching | None = None  # which sources its stream may come from; None: as the call's plan says


Fork = Literal["parallel", "serial"]
OnRedirect = Literal["follow", "report"]
AnswerCaller = Literal["on_answer", "now"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """Seek a party and join it to this call: one new call, whose attempts the targets are.

    Done when that party has left again, or every attempt has failed: then the list goes on. Told by `call.joined`, or by
    the attempts' failures, which are events of the new call.
    """

    name: ClassVar[str] = "dial"
    to: tuple[Target, ...]
    from_: str | None = None  # the URI of the INVITE's From; None: the caller's own
    fork: Fork = "parallel"
    timeout_s: float = 60.0  # how long each target may ring
    on_redirect: OnRedirect = "follow"
    answer_caller: AnswerCaller = "on_answer"  # "now": before anybody has been found
    end_with_peer: bool = True  # when one of the two ends, so does the other
    client_state: str | None = None  # of the new call


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Let this call and another one hear each other. Told by `call.joined`."""

    name: ClassVar[str] = "join"
    call_id: str
    end_with_peer: bool = False
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Back to a conversation of its own. Told by `call.left`."""

    name: ClassVar[str] = "leave"
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Put the far end on hold by a re-INVITE. Ends in `action.completed`."""

    name: ClassVar[str] = "hold"
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhold:
    """Take the far end off hold. Ends in `action.completed`."""

    name: ClassVar[str] = "unhold"
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mute:
    """Nobody hears this call any more; the far end is not told. Ends in `action.completed`."""

    name: ClassVar[str] = "mute"
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmute:
    """This call is heard again. Ends in `action.completed`."""

    name: ClassVar[str] = "unmute"
    client_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Ask the far end to call somebody else in our place, and hang up once it has. Told by `transfer.completed` or `.failed`."""

    name: ClassVar[str] = "transfer"
    to: str | None = None  # a URI; None: the far end of the call that is replaced
    replaces_call_id: str | None = None  # attended: the call whose far end it shall be connected with
    client_state: str | None = None


Action: TypeAlias = (
    Ring
    | Answer
    | Reject
    | Redirect
    | Proxy
    | Pause
    | Park
    | Hangup
    | Dial
    | Join
    | Leave
    | Hold
    | Unhold
    | Mute
    | Unmute
    | Transfer
)

_BY_NAME: dict[str, type[Action]] = {
    kind.name: kind
    for kind in (
        Ring,
        Answer,
        Reject,
        Redirect,
        Proxy,
        Pause,
        Park,
        Hangup,
        Dial,
        Join,
        Leave,
        Hold,
        Unhold,
        Mute,
        Unmute,
        Transfer,
    )
}


def to_data(action: Action) -> dict[str, Any]:
    """Plain data for a snapshot: the action's name and the fields that are not at their default."""
    data: dict[str, Any] = {"action": action.name}
    for each in fields(action):
        value = getattr(action, each.name)
        if each.name == "headers":
            if value:
                data["headers"] = {name: list(values) for name, values in value.items()}
        elif each.name == "to" and not isinstance(value, str | None):
            data["to"] = [target_to_data(target) for target in value]
        elif each.name in ("contacts", "targets"):
            if value or each.name == "contacts":
                data[each.name] = [list(contact) for contact in value]
        elif value != each.default:
            data[each.name] = value
    return data


def target_to_data(target: Target) -> dict[str, Any]:
    """A target as plain data."""
    data: dict[str, Any] = {"uri": target.uri}
    if target.auth is not None:
        if not target.auth.sealed:
            raise AssertionError("a password is sealed before anything is written of it")
        data["sealed"] = [target.auth.username, target.auth.sealed]
    if target.headers:
        data["headers"] = {name: list(values) for name, values in target.headers.items()}
    if target.trunk:
        data["trunk"] = [target.trunk, target.from_, list(target.next_on), target.has_place, target.latching]
    return data


def target_from_data(data: Mapping[str, Any], seal: Seal) -> Target:
    """The target that `target_to_data` wrote."""
    # A release before this one wrote no more than four of them.
    trunk, from_, next_on, has_place, latching = (*data.get("trunk", ("", "", (), False)), None)[:5]
    return Target(
        data["uri"],
        _credentials_from_data(data, seal),
        {name: tuple(values) for name, values in data.get("headers", {}).items()},
        trunk,
        from_,
        tuple(next_on),
        has_place,
        latching,
    )


def _credentials_from_data(data: Mapping[str, Any], seal: Seal) -> Credentials | None:
    if "sealed" in data:
        username, sealed = data["sealed"]
        return Credentials(username, seal.unseal(sealed), sealed)
    if "auth" in data:  # in the clear, as a release before this one wrote it
        username, password = data["auth"]
        return Credentials(username, password, seal.seal(password))
    return None


def from_data(data: Mapping[str, Any], seal: Seal) -> Action:
    """The action that `to_data` wrote. Fields a newer release has added are left out."""
    kind = _BY_NAME[data["action"]]
    known = {each.name: data[each.name] for each in fields(kind) if each.name in data}
    if "headers" in known:
        known["headers"] = {name: tuple(values) for name, values in known["headers"].items()}
    if "to" in known and not isinstance(known["to"], str | None):
        known["to"] = tuple([target_from_data(target, seal) for target in known["to"]])
    for name in ("contacts", "targets"):
        if name in known:
            known[name] = tuple([Contact(*contact) for contact in known[name]])
    return kind(**known)
