"""Tables that list everything of a kind list everything, and nothing that is not there."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bridge.calls.facts import END_REASONS
from bridge.config import KEYS_LATER
from bridge.contract import registrations
from bridge.contract.actions import COMMANDS, LIST_MAX, NAMES, PauseBody
from bridge.contract.bodies import ActionBody
from bridge.contract.dialing import TargetBody
from bridge.contract.events import EVENTS, FAILURES, EventData
from bridge.contract.models import Call
from bridge.contract.operations import OPERATIONS
from bridge.contract.originating import OriginateBody
from bridge.contract.queries import LIMIT_DEFAULT, LIMIT_MAX, CallsQuery
from bridge.contract.registrations import RegistrationData
from bridge.outbox.schedule import Schedule
from bridge.settings.applications import EVENT_TYPES
from bridge.sip.user_agent import Capabilities
from tests.docs.pages import ROOT, page, spans

WEBHOOKS, REST = page("docs/webhooks.md"), page("docs/rest.md")


def data_of(event: str) -> type[BaseModel]:
    for model in (*EVENTS, *registrations.REGISTRATION_EVENTS):
        if model.model_fields["type"].annotation.__args__[0] == event:  # type: ignore[union-attr]
            data: type[BaseModel] = model.model_fields["data"].annotation  # type: ignore[assignment]
            return data
    raise AssertionError(event)


def test_events_and_what_each_adds() -> None:
    rows = {spans(row[0])[0]: spans(row[2]) for row in WEBHOOKS.table("An event", "type")}
    assert (*rows, *registrations.REGISTRATION_TYPES) == EVENT_TYPES
    for event, adds in rows.items():
        every = EventData if event.startswith(("call.", "action.", "transfer.")) else RegistrationData
        expected = set(data_of(event).model_fields) - set(every.model_fields)
        # `request` is shown with its own fields behind it.
        parts = set(adds) - expected if "request" in expected else set()
        assert set(adds) - parts == expected, event
        if parts:
            assert parts == set(data_of(event).model_fields["request"].annotation.model_fields)  # type: ignore[union-attr]


def test_events_of_registrations_and_what_each_adds() -> None:
    rows = {spans(row[0])[0]: spans(row[2]) for row in WEBHOOKS.table("Registrations", "type")}
    assert tuple(rows) == registrations.REGISTRATION_TYPES
    common = set(registrations.RegistrationData.model_fields)
    for event, adds in rows.items():
        assert set(adds) == set(data_of(event).model_fields) - common, event


def test_fields_of_registrations_and_users() -> None:
    text = REST.text.partition("## Registrations and users")[2].partition("\n## ")[0]
    for model in (registrations.Registration, registrations.Binding, registrations.User, registrations.UserBody):
        assert set(model.model_fields) <= set(spans(text)), model
    told = WEBHOOKS.text.partition("## Registrations")[2].partition("\n## ")[0]
    assert set(spans(told)) >= registrations.REGISTRATION_ACTIONS


def test_fields_of_an_event() -> None:
    named = {name for row in WEBHOOKS.table("An event", "field") for name in spans(row[0])}
    envelope = set(EVENTS[0].model_fields) - {"data"}
    assert named == envelope | {f"data.{name}" for name in EventData.model_fields}


def test_what_events_of_registrations_say_instead_of_a_call() -> None:
    told = WEBHOOKS.text.partition("\n## Registrations\n")[2].partition("|")[0]
    own = set(RegistrationData.model_fields) - set(EventData.model_fields)
    assert all(f'"{name}": ' in told for name in own)


def test_replies_to_a_registration() -> None:
    told = WEBHOOKS.text.partition("`registration.requested` comes after ")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", told, re.MULTILINE)) == registrations.REGISTRATION_ACTIONS


def test_failures_of_actions() -> None:
    told = WEBHOOKS.text.partition("`code` of `action.failed` is ")[2].partition("\n\n")[0]
    assert set(spans(told)) - {"detail", "field", "join"} == set(FAILURES)


def shown_fields(cell: str) -> dict[str, str]:
    """`name` (default), … as a table has it."""
    return dict(re.findall(r"`(\w+)`(?: \(([^)]+)\))?", cell))


def fields_of(body: type[BaseModel]) -> dict[str, str]:
    """The same, as the model has it. Any action may have `client_state`, as is said below their table."""
    return {
        field.alias or name: default_of(field)
        for name, field in body.model_fields.items()
        if name != "client_state" or not issubclass(body, ActionBody)
    }


def default_of(field: FieldInfo) -> str:
    match field.get_default():
        case bool() as default:
            return str(default).lower()
        case float() | int() as default:
            return f"{default:g}"
        case str() as default:
            return default
    return ""


def test_actions_and_their_fields() -> None:
    rows = {name: row for row in WEBHOOKS.table("The reply to a decision", "action") for name in spans(row[0])}
    assert list(rows) == [*list(COMMANDS)[:5], "pause", *list(COMMANDS)[5:]]
    assert set(rows) == NAMES
    bodies: dict[str, type[ActionBody]] = {**COMMANDS, "pause": PauseBody}
    for name, row in rows.items():
        assert shown_fields(row[1]) == fields_of(bodies[name]), row
    assert f"at most {LIST_MAX} actions" in WEBHOOKS.text


def test_fields_of_a_target() -> None:
    named = [spans(row[0])[0] for row in WEBHOOKS.table("Whom to call", "field")]
    assert named == list(TargetBody.model_fields)


def test_fields_of_a_call_of_one_s_own() -> None:
    rows = REST.table("A call of your own", "field (default)")
    shown = {name: default for row in rows for name, default in shown_fields(row[0]).items()}
    assert shown == fields_of(OriginateBody)


def test_end_reasons() -> None:
    rows = WEBHOOKS.table("Why a call ended", "`reason`")
    named = [spans(row[0])[0] for row in rows]
    assert len(named) == len(set(named))
    assert set(named) == set(END_REASONS)
    assert all(set(spans(row[1])) <= {"local", "remote", "network", "policy", "node"} for row in rows)


def test_operations_and_their_scopes() -> None:
    shown: dict[tuple[str, str], set[str]] = {}
    for row in REST.table("Operations", ""):
        for operation in spans(row[0]):
            method, path = operation.split()
            shown[method, _nameless(path)] = set(spans(row[1]))
    built = {(each.method, _nameless(each.path)): {each.scope} if each.scope else set() for each in OPERATIONS}
    assert shown == built


def _nameless(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def test_fields_of_a_call() -> None:
    named = [name for row in REST.table("The Call", "field") for name in spans(row[0])]
    assert len(named) == len(set(named))
    assert set(named) == {field.alias or name for name, field in Call.model_fields.items()}


def test_parameters_of_lists() -> None:
    told = REST.text.partition("\n## Lists\n")[2].partition("\n## ")[0]
    assert set(CallsQuery.model_fields) <= set(spans(told))
    assert f"`limit` is 1 to {LIMIT_MAX} ({LIMIT_DEFAULT})" in told


def test_the_schedule() -> None:
    units = {"s": 1, "min": 60, "h": 3600}
    told = WEBHOOKS.text.partition("4. **Retried** after ")[2].partition(", each ±")[0]
    first = 0.0
    delays = [float(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h)\b", told)]
    assert (first, *delays) == Schedule().delays
    assert Schedule().jitter == 0.1


@pytest.mark.parametrize("name", ["README.md", "docs/sip.md"])
def test_methods(name: str) -> None:
    rows = {row[0]: row[1] for row in page(name).table(*_METHODS[name])}
    told = rows["SIP" if name == "README.md" else "Methods"]
    methods = [*Capabilities().methods, "REGISTER"]  # which the registrar adds
    assert re.findall(rf"\b(?:{'|'.join(methods)})\b", told)[: len(methods)] == methods


_METHODS = {
    "README.md": ("What this release does, and what not yet", ""),
    "docs/sip.md": ("Signalling", ""),
}


def test_actions_that_the_readme_names() -> None:
    rows = {row[0]: row[1] for row in page("README.md").table("What this release does, and what not yet", "")}
    assert set(spans(rows["Actions"])) == NAMES


def test_what_is_not_built_is_not_called_built() -> None:
    """The day a key of a later release becomes one of this release, the pages that say "not in this release" are read."""
    assert {"sip.local_nets", "node_overrides"} <= KEYS_LATER


def test_the_tree_is_the_tree() -> None:
    """Every package and module has its line, and the lines stand in the order in which imports may point."""
    text = page("docs/architecture.md").text.partition("## The tree")[2].partition("```text\n")[2].partition("```")[0]
    place = {word: at for at, line in enumerate(text.splitlines()) for word in _names(line)}
    configuration: Any = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = configuration["tool"]["importlinter"]["contracts"]
    layers = [layer.split(" | ") for contract in contracts for layer in contract.get("layers", ())]
    assert set(place) == {name for layer in layers for name in layer}
    order = [place[name] for layer in layers for name in sorted(layer, key=lambda name: place[name])]
    assert order == sorted(order)


def _names(line: str) -> list[str]:
    """The names at the beginning of a line of the tree: words two spaces apart, before anything else."""
    return re.split(r"  (?=\S)", re.split(r" {3,}", line)[0].strip())
