"""Registrations, users and their events as the public JSON (contract §2 and §3): plain dictionaries, rendered once.

The models in `registrations` check the result in tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from bridge.calls.facts import EventId
from bridge.contract.envelope import API_VERSION
from bridge.contract.render import Json, render, timestamp
from bridge.engine.registrations import (
    BindingChanged,
    RegistrationEvent,
    RegistrationRejected,
    RegistrationRequested,
    User,
    stream_of,
)
from bridge.sip.flow import Flow
from bridge.sip.registrar import AddressOfRecord, Binding, alive


def registration_resource(aor: AddressOfRecord, bindings: Iterable[Binding], *, now: float) -> Json | None:
    """The Registration as it is now; None where nothing is bound (any more)."""
    found = alive(bindings, now=now)
    return {"aor": aor, "bindings": [binding_resource(each) for each in found]} if found else None


def binding_resource(binding: Binding) -> Json:
    """One Binding."""
    return {
        "contact": binding.contact,
        "q": binding.q,
        "expires_at": timestamp(binding.expires_at),
        "source": _source(binding.flow),
        "flow": {"listener": binding.flow.listener, "behind_nat": binding.received is not None},
        "user_agent": binding.user_agent,
        "instance": binding.instance,
        "reg_id": binding.reg_id,
        "path": list(binding.path),
    }


def user_resource(user: User, source: Literal["file", "api"]) -> Json:
    """The User, without what proves it."""
    return {"username": user.username, "aor": user.aor, "source": source}


def render_registration(
    event_id: EventId,
    event: RegistrationEvent,
    aor: AddressOfRecord,
    application: str,
    sequence: int,
    *,
    now: float,
) -> bytes:
    """The body of one event's webhooks; `now` (seconds UTC) is when it happened."""
    data: Json = {
        "stream": stream_of(aor),
        "sequence": sequence,
        "application": application,
        "caused_by": None,
        "aor": aor,
        "username": event.username,
    }
    match event:
        case BindingChanged(binding=binding, by=by):
            data["binding"] = binding_resource(binding)
            if by is not None:
                data["by"] = by
        case RegistrationRequested():
            data["bindings"] = [binding_resource(each) for each in event.contacts]
            data |= {"source": _source(event.flow), "user_agent": event.user_agent}
        case RegistrationRejected():
            data |= {"code": event.code, "reason": event.reason}
            data |= {"source": _source(event.flow), "user_agent": event.user_agent}
    body = {"id": event_id, "type": event.type, "timestamp": timestamp(now), "api_version": API_VERSION, "data": data}
    return render(body)


def _source(flow: Flow) -> Json:
    host = f"[{flow.host}]" if ":" in flow.host else flow.host
    return {"address": f"{host}:{flow.port}", "transport": flow.transport}
