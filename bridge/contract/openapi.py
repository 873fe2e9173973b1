"""The OpenAPI 3.1 document, made of the pydantic models and the table of operations: a thin layer, and no library.

OpenAPI 3.1 schemas *are* JSON Schema 2020-12, which pydantic writes, so all that is left is to put them together. The
webhooks stand in it too (`webhooks`, new in 3.1), with the reply that a decision waits for.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from bridge import __version__
from bridge.contract import examples
from bridge.contract.actions import DecisionReply
from bridge.contract.envelope import Envelope
from bridge.contract.events import EVENTS
from bridge.contract.models import Problem
from bridge.contract.operations import OPERATIONS, SCOPES, Operation
from bridge.contract.originating import KEY_PATTERN
from bridge.contract.problems import KINDS, RETRY_AFTER_S, Code, problem
from bridge.contract.registrations import REGISTRATION_EVENTS, RegistrationReply
from bridge.contract.transferring import TransferReply

Json = dict[str, Any]

_JSON = "application/json"
_PROBLEM = "application/problem+json"

_DESCRIPTION = """\
SIP on one side, HTTP on the other. Times are ISO 8601 in UTC, durations bear their unit in the name.
Ignore fields, event types and enum values that you do not know: within v1 things are added, never removed or retyped.
Requests are strict: an unknown field is refused, with its JSON path."""

_PATH_PARAMETERS: dict[str, str] = {
    "call_id": "The call's `id`.",
    "conversation_id": "The conversation's `id`.",
    "aor": "The address of record: `sip:user@host`.",
    "username": "The user's name.",
    "name": "The trunk's name.",
    "node_id": "The node's `id`.",
}


WEBHOOKS: tuple[type[Envelope], ...] = (*EVENTS, *REGISTRATION_EVENTS)

_REPLIES: dict[str, type[BaseModel]] = {
    "call.incoming": DecisionReply,
    "registration.requested": RegistrationReply,
    "transfer.requested": TransferReply,
}


def document() -> Json:
    """The whole document, ready for a JSON serialiser."""
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sip-bridge",
            "version": __version__,
            "summary": "SIP calls under the control of an HTTP application.",
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys([*(it.tag for it in OPERATIONS), "webhooks"])],
        "paths": paths,
        "webhooks": {_type_of(event): {"post": _webhook(event)} for event in WEBHOOKS},
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": f"A key of `api.keys`. Scopes, each including those before it: {', '.join(SCOPES)}.",
                }
            },
        },
    }


def _schemas() -> Json:
    said: list[type[BaseModel]] = [*WEBHOOKS, Problem]
    heard: list[type[BaseModel]] = [*_REPLIES.values()]
    for operation in OPERATIONS:
        said += [model for _, model in operation.answers.values() if not isinstance(model, str)]
        heard += [operation.body] if operation.body else []
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "serialization") for model in dict.fromkeys(said)]
    models += [(model, "validation") for model in dict.fromkeys(heard)]
    _, made = models_json_schema(models, ref_template="#/components/schemas/{model}")
    schemas: Json = made["$defs"]
    for name, given in examples.SCHEMAS.items():
        schemas[name]["examples"] = given
    return dict(sorted(schemas.items()))


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _operation(operation: Operation) -> Json:
    made: Json = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": _responses(operation),
    }
    if operation.description:
        made["description"] = operation.description
    parameters = [*_path_parameters(operation.path), *_query_parameters(operation.query)]
    if operation.idempotent:
        parameters.append(_IDEMPOTENCY_KEY)
    if parameters:
        made["parameters"] = parameters
    if operation.body is not None:
        content = {"schema": _reference(operation.body)}
        made["requestBody"] = {"required": operation.body_required, "content": {_JSON: content}}
    if operation.scope is not None:
        # OpenAPI 3.1 lets every kind of security scheme name the roles it needs.
        made["security"] = [{"key": [operation.scope]}]
    return made


def _path_parameters(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "description": said, "schema": {"type": "string"}}
        for name, said in _PATH_PARAMETERS.items()
        if f"{{{name}}}" in path
    ]


def _query_parameters(query: type[BaseModel] | None) -> list[Json]:
    properties = query.model_json_schema()["properties"] if query else {}
    return [
        {"name": name, "in": "query", "required": False, "description": it["description"], "schema": _present(it)}
        for name, it in properties.items()
    ]


def _present(schema: Json) -> Json:
    """The schema of a parameter that is given: null, the models' way to say that it is not, cannot be sent."""
    kept = {key: value for key, value in schema.items() if key not in ("anyOf", "default", "description", "title")}
    for each in schema.get("anyOf", ()):
        if each.get("type") != "null":
            kept |= each
    if schema.get("default") is not None:
        kept["default"] = schema["default"]
    return kept


def _responses(operation: Operation) -> Json:
    responses: Json = {}
    for status, (said, model) in operation.answers.items():
        content = (
            {model: {"schema": {"type": "string"}}}
            if isinstance(model, str)
            else {_JSON: {"schema": _reference(model)}}
        )
        if model == _JSON:
            content = {_JSON: {"schema": {"type": "object"}}}
        responses[str(status)] = {"description": said, "content": content}
        if status == HTTPStatus.CREATED:
            responses[str(status)]["headers"] = _CREATED_HEADERS
    by_status: dict[int, list[Code]] = {}
    for code in operation.problems:
        by_status.setdefault(KINDS[code].status, []).append(code)
    for status, codes in sorted(by_status.items()):
        responses[str(status)] = _problem_response(status, codes)
    responses["default"] = {
        "description": "Any other problem.",
        "content": {_PROBLEM: {"schema": _reference(Problem)}},
    }
    return responses


def _problem_response(status: int, codes: list[Code]) -> Json:
    made: Json = {
        "description": " · ".join(KINDS[code].title for code in codes),
        "content": {
            _PROBLEM: {
                "schema": _reference(Problem),
                "examples": {
                    code: {"summary": KINDS[code].title, "value": problem(code, KINDS[code].remedy)} for code in codes
                },
            }
        },
    }
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        made["headers"] = {"Retry-After": _header("Seconds to wait.", {"type": "integer", "examples": [RETRY_AFTER_S]})}
    if status == HTTPStatus.UNAUTHORIZED:
        made["headers"] = {"WWW-Authenticate": _header("Which scheme to use.", {"type": "string"})}
    return made


def _header(said: str, schema: Json, *, required: bool = True) -> Json:
    return {"description": said, "required": required, "schema": schema}


_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and body within 24 hours get the first answer again; the same key with another is refused.",
    "schema": {"type": "string", "pattern": KEY_PATTERN},
}
_CREATED_HEADERS: Json = {
    "Location": _header("The call's path.", {"type": "string"}),
    "Idempotency-Replayed": _header(
        "`true`: this is the answer to an earlier request with the same `Idempotency-Key`.",
        {"type": "string"},
        required=False,
    ),
}


def _type_of(event: type[Envelope]) -> str:
    name: str = event.model_fields["type"].annotation.__args__[0]  # type: ignore[union-attr]  # always a Literal
    return name


def _webhook(event: type[Envelope]) -> Json:
    reply = _REPLIES.get(_type_of(event))
    answer: Json = {"description": "It has arrived. What the body says is ignored."}
    if reply is not None:
        answer["description"] = "The decision; an empty body decides too. " + (reply.__doc__ or "")
        answer["content"] = {_JSON: {"schema": _reference(reply)}}
    return {
        "operationId": _type_of(event).replace(".", "_"),
        "tags": ["webhooks"],
        "summary": (event.__doc__ or "").strip(),
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": said, "schema": {"type": "string"}}
            for name, said in (
                ("webhook-id", "The event's id: the same on every attempt."),
                ("webhook-timestamp", "Of the attempt, in seconds UTC."),
                ("webhook-signature", "`v1,` and HMAC-SHA256 of `id.timestamp.body` (Standard Webhooks 1.0.0)."),
            )
        ],
        "requestBody": {"required": True, "content": {_JSON: {"schema": _reference(event)}}},
        "responses": {"2XX": answer},
    }
