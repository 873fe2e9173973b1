"""The document: valid, complete, and with examples that are true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import jsonschema_rs
import pytest
from pydantic import BaseModel

from bridge.calls import events
from bridge.contract import (
    actions,
    dialing,
    examples,
    models,
    originating,
    proxying,
    redirecting,
    registrations,
    transferring,
    trunks,
)
from bridge.contract import events as contract_events
from bridge.contract import nodes as contract_nodes
from bridge.contract.bodies import Body
from bridge.contract.openapi import document
from bridge.contract.operations import OPERATIONS, Operation

DOCUMENT = document()
SCHEMAS = DOCUMENT["components"]["schemas"]


def nodes(tree: object) -> Iterator[dict[str, Any]]:
    match tree:
        case dict():
            yield tree
            for branch in tree.values():
                yield from nodes(branch)
        case list():
            for branch in tree:
                yield from nodes(branch)


def model(name: str) -> type[BaseModel]:
    places = (
        models,
        contract_events,
        actions,
        dialing,
        originating,
        proxying,
        redirecting,
        registrations,
        transferring,
        contract_nodes,
        trunks,
    )
    found: type[BaseModel] = next(getattr(it, name) for it in places if hasattr(it, name))
    assert issubclass(found, BaseModel)
    return found


def bundled(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}


def test_it_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert DOCUMENT["info"]["version"]


def test_every_reference_leads_somewhere() -> None:
    references = {it["$ref"] for it in nodes(DOCUMENT) if "$ref" in it}
    assert references
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in SCHEMAS


def test_every_schema_is_used() -> None:
    referred = {it["$ref"].rsplit("/", 1)[1] for it in nodes(DOCUMENT) if "$ref" in it}
    assert set(SCHEMAS) == referred


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_json_schema_2020_12(name: str) -> None:
    jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **SCHEMAS[name]})


@pytest.mark.parametrize("name", examples.SCHEMAS)
def test_examples_are_true(name: str) -> None:
    for example in examples.SCHEMAS[name]:
        model(name).model_validate(example)
        jsonschema_rs.validate(bundled(name), example)


def test_examples_of_problems_are_true() -> None:
    found = [it["value"] for it in nodes(DOCUMENT["paths"]) if "value" in it and "summary" in it]
    assert found
    for problem in found:
        jsonschema_rs.validate(bundled("Problem"), problem)


def test_what_we_say_is_open_and_what_we_hear_is_strict() -> None:
    heard = {name for name in SCHEMAS if issubclass(model(name), Body)}
    assert heard
    for name, schema in SCHEMAS.items():
        if schema["type"] == "object":
            assert schema.get("additionalProperties", True) is (name not in heard), name


def test_lists_of_words_in_resources_can_grow() -> None:
    for name, schema in SCHEMAS.items():
        if not issubclass(model(name), Body):
            assert not [it for it in nodes(schema) if "enum" in it], name


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_every_operation_is_documented(operation: Operation) -> None:
    found = DOCUMENT["paths"][operation.path][operation.method.lower()]
    assert found["operationId"] == operation.id
    assert found["summary"]
    assert "default" in found["responses"]
    named = {it["name"] for it in found.get("parameters", ()) if it["in"] == "path"}
    assert named == set(re.findall(r"{(\w+)}", operation.path))
    assert ("security" in found) is operation.path.startswith("/v1/")
    assert ("requestBody" in found) is (operation.body is not None)


def test_operations_have_names_of_their_own() -> None:
    names = [it["operationId"] for it in nodes(DOCUMENT) if "operationId" in it]
    assert len(set(names)) == len(names)


def test_nothing_is_promised_that_is_not_built() -> None:
    assert not [path for path in DOCUMENT["paths"] if re.search("timeline", path)]


def test_only_a_call_of_one_s_own_reads_an_idempotency_key() -> None:
    reading = {
        (path, method)
        for path, methods in DOCUMENT["paths"].items()
        for method, it in methods.items()
        if any(parameter["name"] == "Idempotency-Key" for parameter in it.get("parameters", ()))
    }
    assert reading == {("/v1/calls", "post")}
    created = DOCUMENT["paths"]["/v1/calls"]["post"]["responses"]["201"]
    assert {name: it["required"] for name, it in created["headers"].items()} == {
        "Location": True,
        "Idempotency-Replayed": False,
    }


def test_every_event_is_a_webhook() -> None:
    of_calls = {event.type for event in get_args(events.Event)}
    assert set(DOCUMENT["webhooks"]) == of_calls | set(registrations.REGISTRATION_TYPES)
    assert "content" in DOCUMENT["webhooks"]["registration.requested"]["post"]["responses"]["2XX"]
    assert "content" in DOCUMENT["webhooks"]["call.incoming"]["post"]["responses"]["2XX"]
    assert "content" not in DOCUMENT["webhooks"]["call.ended"]["post"]["responses"]["2XX"]


def test_parameters_have_no_null() -> None:
    parameters = {it["name"]: it["schema"] for it in DOCUMENT["paths"]["/v1/calls"]["get"]["parameters"]}
    assert set(parameters) == {"limit", "cursor", "state", "direction", "application"}
    assert parameters["limit"] == {"type": "integer", "minimum": 1, "maximum": 500, "default": 100}
    assert parameters["direction"] == {"type": "string", "enum": ["inbound", "outbound"]}
