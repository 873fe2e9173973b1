"""Where else to look, as JSON says it (contract §1 `redirect`, RFC 3261 §8.3): the contacts of a 3xx response of ours.

A contact is a `sip:`, `sips:` or `tel:` URI, alone or with its `q`. What a code wants of its contacts (§21.3) is checked
here. Knows nothing of which call may be redirected: that is the call's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from bridge.calls import actions as calls
from bridge.calls import facts
from bridge.contract.bodies import ActionBody, Body
from bridge.contract.dialing import TARGET_FORM, URI_FORM, URI_MAX, form_of, sip_uri
from bridge.contract.headers import ExtraHeaders, OneLine, one_line, tuples_of
from bridge.sip.uri import TelUri, parse_uri

CONTACTS_MAX = 10  # of 512 characters each they still are one message
_USE_PROXY, _ALTERNATIVE_SERVICE = 305, 380


def _contact_uri(text: str) -> str:
    if not isinstance(parse_uri(text), TelUri):
        sip_uri(text)
    elif not text.isascii():
        raise PydanticCustomError("uri_ascii", "should be ASCII: write other characters as %HH")
    return one_line(text)


ContactUri = Annotated[
    str,
    Field(max_length=URI_MAX),
    AfterValidator(_contact_uri),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": URI_MAX,
            "pattern": "^([sS][iI][pP][sS]?|[tT][eE][lL]):",
            "examples": ["sip:bob@example.com"],
        }
    ),
]


class ContactBody(Body):
    """One place to look for whom the caller wants."""

    uri: ContactUri
    q: Annotated[
        float | None,
        Field(ge=0, le=1, allow_inf_nan=False, description="The higher, the sooner it is tried; three decimals."),
    ] = None

    def to_contact(self) -> facts.Contact:
        """The same as `bridge.calls` says it."""
        return facts.Contact(self.uri, None if self.q is None else round(self.q, 3))


def _one_form(given: Any) -> str | None:
    form = form_of(given)
    return form if form in (URI_FORM, TARGET_FORM) else None


_OneContact: TypeAlias = Annotated[
    Annotated[ContactUri, Tag(URI_FORM)] | Annotated[ContactBody, Tag(TARGET_FORM)],
    Discriminator(_one_form, custom_error_type="contact", custom_error_message="should be a URI or an object with one"),
]


class RedirectBody(ActionBody):
    """Send the caller elsewhere by a 3xx response. Told by `call.redirected`."""

    contacts: Annotated[
        list[_OneContact],
        Field(
            max_length=CONTACTS_MAX, description="Where else to look; of a 305 one, the proxy; of a 380 perhaps none."
        ),
    ]
    code: Literal[300, 301, 302, 305, 380] = 302
    reason: Annotated[
        OneLine | None, Field(description="The reason phrase; without one, the RFC's own. A 380 needs it.")
    ] = None
    headers: ExtraHeaders | None = None

    @model_validator(mode="after")
    def _fits_its_code(self) -> Self:
        if self.code == _ALTERNATIVE_SERVICE:
            if self.reason is None:
                raise PydanticCustomError("redirect_reason", "needs a `reason` with code 380: what the alternative is")
        elif not self.contacts:
            raise PydanticCustomError("redirect_contacts", "needs at least one contact")
        elif self.code == _USE_PROXY and len(self.contacts) != 1:
            raise PydanticCustomError("redirect_proxy", "needs exactly one contact with code 305: the proxy")
        return self

    def to_action(self) -> calls.Redirect:
        contacts = [facts.Contact(each) if isinstance(each, str) else each.to_contact() for each in self.contacts]
        return calls.Redirect(
            contacts=tuple(contacts),
            code=self.code,
            reason=self.reason,
            headers=tuples_of(self.headers),
            client_state=self.client_state,
        )
