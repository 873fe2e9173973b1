"""`POST /v1/calls`: a call of our own, as JSON asks for it (contract §2), and the way to the engine's word for it.

Knows nothing of HTTP, nor of who draws the call's id.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from bridge.calls import actions as calls
from bridge.calls.facts import CallId, ConversationId
from bridge.contract.actions import LIST_MAX, ListedAction, to_actions
from bridge.contract.bodies import Body, ClientState
from bridge.contract.dialing import Caller, DialTimeout, Targets, to_targets
from bridge.contract.headers import one_line
from bridge.contract.models import ConversationIdText
from bridge.engine.commit import Claim
from bridge.engine.inputs import Originate

TAGS_MAX = 20
TAG_MAX = 64
KEY_PATTERN = "^[!-~]{1,255}$"  # of an Idempotency-Key
DURATION_MAX_S = 604_800.0  # a week, as `limits.max_duration_s` has it

TagText = Annotated[str, Field(min_length=1, max_length=TAG_MAX), AfterValidator(one_line)]


class OriginateBody(Body):
    """Call a party. Told by `call.initiated`, and by what comes of it."""

    to: Targets
    from_: Annotated[Caller | None, Field(alias="from")] = None
    application: Annotated[
        str, Field(min_length=1, max_length=64, description="Which entry of `applications` gets its events.")
    ] = "default"
    timeout_s: DialTimeout = 60.0
    max_duration_s: Annotated[
        float | None,
        Field(
            gt=0,
            le=DURATION_MAX_S,
            allow_inf_nan=False,
            description="The longest it may last once answered; its application's limit holds all the same.",
        ),
    ] = None
    fork: Annotated[calls.Fork, Field(description="All targets at once, or one after the other.")] = "parallel"
    on_redirect: Annotated[calls.OnRedirect, Field(description="What a 3xx response does.")] = "follow"
    client_state: ClientState | None = None
    tags: Annotated[
        list[TagText] | None, Field(max_length=TAGS_MAX, description="Your own words; the Call shows them.")
    ] = None
    conversation_id: Annotated[
        ConversationIdText | None, Field(description="A conversation to be born into; without one, one of its own.")
    ] = None
    actions: Annotated[
        list[ListedAction] | None, Field(max_length=LIST_MAX, description="Run once it is answered.")
    ] = None

    def to_originate(self, request: int, call: CallId, claim: Claim | None) -> Originate:
        """The same as the engine says it. `call` is drawn by whoever asks; `claim` is its Idempotency-Key."""
        return Originate(
            request=request,
            call=call,
            application=self.application,
            to=to_targets(self.to),
            from_=self.from_,
            timeout_s=self.timeout_s,
            max_duration_s=self.max_duration_s,
            fork=self.fork,
            on_redirect=self.on_redirect,
            client_state=self.client_state,
            tags=tuple(self.tags or ()),
            conversation=None if self.conversation_id is None else ConversationId(self.conversation_id),
            actions=to_actions(self.actions or ()),
            claim=claim,
        )
