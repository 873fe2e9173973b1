"""The `applications` of the configuration: which webhooks answer for which addresses (contract §5)."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias, get_args

from pydantic import BeforeValidator, Field, field_validator

from bridge.calls.events import Event
from bridge.contract.actions import LIST_MAX, ListedAction, Reject
from bridge.contract.registrations import REGISTRATION_TYPES
from bridge.settings.values import Name, Seconds, Section, WebhookSecret, WebUrl, lower_hosts, split_text

EVENT_TYPES: tuple[str, ...] = (*(event.type for event in get_args(Event)), *REGISTRATION_TYPES)

Patterns: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(split_text), Field(max_length=1000)]


class Match(Section):
    """Which calls an application answers: both keys, where given, must fit the Request-URI."""

    users: Patterns = Field(default=(), description="its user part: 100, or a prefix: 49*; default: any")
    domains: Patterns = Field(default=(), description="its host part: example.com; default: any")

    @field_validator("users")
    @classmethod
    def _prefixes(cls, users: tuple[str, ...]) -> tuple[str, ...]:
        for user in users:
            if "*" in user[:-1]:
                raise ValueError("a `*` may stand at the end only")
        return users

    @field_validator("domains")
    @classmethod
    def _hosts(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        return lower_hosts(domains)


class ApplicationWebhook(Section):
    """One endpoint of an application."""

    id: Name = Field(description="names the endpoint for good: what waits for it is found under this id")
    url: WebUrl = Field(description="where its events go")
    fallback_url: WebUrl | None = Field(default=None, description="asked once when a decision fails at url")
    events: Annotated[tuple[str, ...], BeforeValidator(split_text)] | None = Field(
        default=None, description="types it wants; default: all"
    )
    secrets: Annotated[tuple[WebhookSecret, ...], BeforeValidator(split_text), Field(max_length=10)] = Field(
        default=(), description="default: webhooks.secrets"
    )
    decision: bool = Field(default=False, description="true for the one endpoint that decides")

    @field_validator("events")
    @classmethod
    def _known(cls, events: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = sorted(set(events or ()) - set(EVENT_TYPES))
        if unknown:
            raise ValueError(f"no such event type: {', '.join(unknown)}; there are {', '.join(EVENT_TYPES)}")
        return events


_DESTINATION = re.compile(r"[^*@\s]*\*?(?:@(?:\*|[^*@\s]+))?")


class DestinationLimits(Section):
    """Whom one application may call."""

    allowed: Patterns = Field(description="who may be called: +49*, 100, *@pbx.example.com, +4930*@gateway.example.com")
    denied: Patterns = Field(default=(), description="who of those may not: +49900*")

    @field_validator("allowed", "denied")
    @classmethod
    def _patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if not pattern or not _DESTINATION.fullmatch(pattern):
                raise ValueError(
                    f"{pattern!r} is no destination: expected a user, 100 or +49*, and perhaps a host, *@example.com"
                )
        return tuple(user + at + host.lower() for user, at, host in (each.partition("@") for each in patterns))


class ApplicationLimits(Section):
    """How long the calls of one application may take, and whom it may call."""

    max_ring_s: Seconds = Field(default=180.0, description="the longest a call may stay unanswered")
    max_duration_s: Seconds = Field(default=14_400.0, description="the longest a call may last once answered")
    destinations: DestinationLimits | None = Field(
        default=None, description="the only ones that `dial` and POST /v1/calls may call; default: everybody"
    )


class Application(Section):
    """Which webhooks answer for which addresses. The first one that matches has the call."""

    name: Name = Field(description="stands in every event")
    match: Match = Match()
    webhooks: Annotated[tuple[ApplicationWebhook, ...], Field(min_length=1, max_length=20)] = Field(
        description="its endpoints, exactly one with `decision: true`"
    )
    fallback: Annotated[tuple[ListedAction, ...], Field(min_length=1, max_length=LIST_MAX)] = Field(
        default=(Reject(action="reject"),), description="actions when no decision comes: [{action: reject, code: 480}]"
    )
    limits: ApplicationLimits = ApplicationLimits()
    registrations: bool = Field(default=False, description="true: it decides who may register, besides the password")
    transfers: bool = Field(default=False, description="true: it decides about transfers that a phone asks for (REFER)")

    @field_validator("webhooks")
    @classmethod
    def _one_decides(cls, webhooks: tuple[ApplicationWebhook, ...]) -> tuple[ApplicationWebhook, ...]:
        deciding = sum(webhook.decision for webhook in webhooks)
        if deciding != 1:
            raise ValueError(f"exactly one webhook needs `decision: true`; {deciding} have it")
        return webhooks
