"""Whom to call, as JSON says it (contract §1 `dial`, §2 `POST /v1/calls`): targets, who calls them, and `dial`.

A target is a `sip:` or `sips:` URI that can stand in a request line as it is; its credentials go in and never come out.
Knows nothing of how a target is found: a number goes by a trunk, and without one it is refused as such.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    PlainSerializer,
    SecretStr,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from bridge.calls import actions as calls
from bridge.contract.bodies import ActionBody, Body, write_secret
from bridge.contract.headers import ExtraHeaders, one_line, tuples_of
from bridge.sip.headers import format_name_addr, parse_name_addr
from bridge.sip.uri import SipUri, TelUri, parse_uri

TARGETS_MAX = 20
DIAL_TIMEOUT_MAX_S = 3600.0
URI_MAX = 512
NO_ROUTE: Final = "no_route"  # the type of a finding, and the code of the problem that it becomes

_NUMBER = re.compile(r"\+?[\s\-.()]*[0-9*#][0-9*#\s\-.()]*")
_SPACES = str.maketrans("", "", " \t")
_URI_SCHEMA = {
    "type": "string",
    "maxLength": URI_MAX,
    "pattern": "^[sS][iI][pP][sS]?:",
    "examples": ["sip:bob@example.com"],
}


def sip_uri(text: str) -> SipUri:
    """The URI, where it can stand in a request line or a From as it is; else the finding that says why not."""
    uri = parse_uri(text)
    if not isinstance(uri, SipUri):
        if isinstance(parse_uri(f"sip:{text}"), SipUri):
            raise PydanticCustomError("uri_scheme", "should begin with `sip:` or `sips:`, like sip:user@host")
        raise PydanticCustomError("uri", "should be a `sip:` or `sips:` URI, like sip:user@host")
    if not text.isascii():
        raise PydanticCustomError("uri_ascii", "should be ASCII: write other characters as %HH")
    one_line(text)
    if uri.password is not None:
        raise PydanticCustomError("uri_password", "should have no password in it: a target has `auth` for that")
    if uri.headers:
        raise PydanticCustomError(
            "uri_headers", "should have no headers in it (`?…`): a target has `headers` for those"
        )
    return uri


def _is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) or isinstance(parse_uri(text), TelUri)


def _target_uri(text: str) -> str:
    if _is_number(text):
        raise PydanticCustomError(NO_ROUTE, "is a number, and a number needs a trunk: {uri, trunk}")
    sip_uri(text)
    return text


def _number_or_uri(text: str) -> str:
    """As it is called by a trunk: a number as a tel: URI, without what only people need in it (RFC 3966 §5.1.1)."""
    if not _is_number(text):
        sip_uri(text)
        return text
    uri = parse_uri(text if text[:4].lower() == "tel:" else f"tel:{text.translate(_SPACES)}")
    if not isinstance(uri, TelUri):
        raise PydanticCustomError("number", "should be a number of digits, `*` and `#`, perhaps with a `+` before them")
    return f"tel:{uri.number}"


def _caller(text: str) -> str:
    one_line(text)
    address = parse_name_addr(text)
    if address is None or "<" not in text:
        sip_uri(text)
        # Without brackets its parameters would be the header field's own (§20.20).
        return format_name_addr(None, text) if ";" in text else text
    sip_uri(address.uri)
    if address.params:
        raise PydanticCustomError("caller_parameters", "should have nothing behind its URI")
    return format_name_addr(address.display_name, address.uri)


UriText = Annotated[str, Field(max_length=URI_MAX), AfterValidator(_target_uri), WithJsonSchema(_URI_SCHEMA)]
Caller = Annotated[
    str,
    Field(max_length=URI_MAX),
    AfterValidator(_caller),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": URI_MAX,
            "pattern": "[sS][iI][pP][sS]?:",
            "description": "Who calls: a `sip:` URI, or a display name and a URI in angle brackets.",
            "examples": ['"Front Desk" <sip:desk@example.com>'],
        }
    ),
]
DialTimeout = Annotated[
    float,
    Field(gt=0, le=DIAL_TIMEOUT_MAX_S, allow_inf_nan=False, description="How long each target may ring."),
]


class Auth(Body):
    """What we prove ourselves with where a target asks for it. It goes in and never comes out."""

    username: Annotated[str, Field(min_length=1, max_length=256), AfterValidator(one_line)]
    password: Annotated[SecretStr, Field(max_length=256), PlainSerializer(write_secret)]


TrunkName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class TargetBody(Body):
    """One place to look for the party."""

    trunk: Annotated[TrunkName | None, Field(description="The trunk that it is called by.")] = None
    uri: Annotated[
        str,
        Field(
            max_length=URI_MAX,
            description="A `sip:` or `sips:` URI; with a trunk, a number too.",
            examples=["sip:bob@example.com", "+4930123456"],
        ),
    ]
    auth: Annotated[Auth | None, Field(description="Before that of the trunk.")] = None
    headers: Annotated[ExtraHeaders | None, Field(description="Extra headers of its INVITE.")] = None

    @field_validator("uri")
    @classmethod
    def _reachable(cls, uri: str, info: ValidationInfo) -> str:
        return _target_uri(uri) if info.data.get("trunk", "") is None else _number_or_uri(uri)

    def to_target(self) -> calls.Target:
        """The same as `bridge.calls` says it."""
        auth = (
            None if self.auth is None else calls.Credentials(self.auth.username, self.auth.password.get_secret_value())
        )
        return calls.Target(self.uri, auth, tuples_of(self.headers), self.trunk or "")


# Which form of `to` this is. The names are no JSON: whoever tells a path leaves them out.
URI_FORM, TARGET_FORM, LIST_FORM = "[uri]", "[target]", "[list]"


def form_of(given: Any) -> str | None:
    """Whether this is a URI, an object with one, or a list of those; None: it is neither."""
    match given:
        case str():
            return URI_FORM
        case Mapping() | BaseModel():
            return TARGET_FORM
        case list() | tuple():
            return LIST_FORM
    return None


_OneTarget: TypeAlias = Annotated[
    Annotated[UriText, Tag(URI_FORM)] | Annotated[TargetBody, Tag(TARGET_FORM)],
    Discriminator(
        lambda given: form if (form := form_of(given)) != LIST_FORM else None,
        custom_error_type="target",
        custom_error_message="should be a URI or an object with one",
    ),
]
Targets: TypeAlias = Annotated[
    Annotated[UriText, Tag(URI_FORM)]
    | Annotated[TargetBody, Tag(TARGET_FORM)]
    | Annotated[list[_OneTarget], Field(min_length=1, max_length=TARGETS_MAX), Tag(LIST_FORM)],
    Discriminator(
        form_of,
        custom_error_type="targets",
        custom_error_message="should be a URI, an object with one, or a list of those",
    ),
    Field(description=f"One target or a list of at most {TARGETS_MAX}; several are attempts of one call."),
]


def to_targets(given: str | TargetBody | list[str | TargetBody]) -> tuple[calls.Target, ...]:
    """The targets as `bridge.calls` says them."""
    listed = given if isinstance(given, list) else [given]
    return tuple([calls.Target(each) if isinstance(each, str) else each.to_target() for each in listed])


class DialBody(ActionBody):
    """Seek a party and join it to this call. Told by `call.joined`, or by the events of the new call."""

    to: Targets
    from_: Annotated[Caller | None, Field(alias="from")] = None
    fork: Annotated[calls.Fork, Field(description="All targets at once, or one after the other.")] = "parallel"
    timeout_s: DialTimeout = 60.0
    on_redirect: Annotated[calls.OnRedirect, Field(description="What a 3xx response does.")] = "follow"
    answer_caller: Annotated[calls.AnswerCaller, Field(description="When this call is answered, if it is not yet.")] = (
        "on_answer"
    )
    end_with_peer: Annotated[bool, Field(description="When one of the two ends, so does the other.")] = True

    @property
    def passwords(self) -> tuple[SecretStr, ...]:
        """Every password in it: what a log must not show."""
        listed = self.to if isinstance(self.to, list) else [self.to]
        return tuple([each.auth.password for each in listed if isinstance(each, TargetBody) and each.auth is not None])

    def to_action(self) -> calls.Dial:
        return calls.Dial(
            to=to_targets(self.to),
            from_=self.from_,
            fork=self.fork,
            timeout_s=self.timeout_s,
            on_redirect=self.on_redirect,
            answer_caller=self.answer_caller,
            end_with_peer=self.end_with_peer,
            client_state=self.client_state,
        )
