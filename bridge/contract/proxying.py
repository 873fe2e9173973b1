"""Whom a call is passed on to, as JSON says it (contract §1 `proxy`, RFC 3261 §16).

A target is a `sip:` or `sips:` URI, alone or with its `q`: a proxy adds nothing to the INVITE of somebody else, so there are no
credentials and no headers. Knows nothing of which call may be passed on: that is the call's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from bridge.calls import actions as calls
from bridge.calls import facts
from bridge.contract.bodies import ActionBody, Body
from bridge.contract.dialing import DIAL_TIMEOUT_MAX_S, TARGET_FORM, TARGETS_MAX, URI_FORM, UriText, form_of


class ProxyTargetBody(Body):
    """One place that the call is passed on to."""

    uri: UriText
    q: Annotated[
        float | None,
        Field(ge=0, le=1, allow_inf_nan=False, description="One after the other: the higher, the sooner."),
    ] = None

    def to_contact(self) -> facts.Contact:
        """The same as `bridge.calls` says it."""
        return facts.Contact(self.uri, None if self.q is None else round(self.q, 3))


def _one_form(given: Any) -> str | None:
    form = form_of(given)
    return form if form in (URI_FORM, TARGET_FORM) else None


_OneTarget: TypeAlias = Annotated[
    Annotated[UriText, Tag(URI_FORM)] | Annotated[ProxyTargetBody, Tag(TARGET_FORM)],
    Discriminator(_one_form, custom_error_type="target", custom_error_message="should be a URI or an object with one"),
]


class ProxyBody(ActionBody):
    """Pass the call on as a proxy, and stay out of it. Told by `call.proxied`."""

    targets: Annotated[
        list[_OneTarget] | None,
        Field(
            min_length=1,
            max_length=TARGETS_MAX,
            description="Whom to ask; without any, the contacts that are registered for whom the caller wants.",
        ),
    ] = None
    fork: Annotated[
        Literal["parallel", "serial"], Field(description="All targets at once, or one after the other.")
    ] = "parallel"
    record_route: Annotated[
        bool, Field(description="Stay on the way of what the two say to each other later (Record-Route).")
    ] = False
    timeout_s: Annotated[
        float,
        Field(
            gt=0,
            le=DIAL_TIMEOUT_MAX_S,
            allow_inf_nan=False,
            description="How long those who are asked at once may ring.",
        ),
    ] = 60.0

    def to_action(self) -> calls.Proxy:
        listed = self.targets or ()
        return calls.Proxy(
            targets=tuple([facts.Contact(each) if isinstance(each, str) else each.to_contact() for each in listed]),
            fork=self.fork,
            record_route=self.record_route,
            timeout_s=self.timeout_s,
            client_state=self.client_state,
        )
