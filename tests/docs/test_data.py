"""Every JSON and YAML of the pages is what it says it is: an event, a reply, a problem, a list, a Call; a configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.config import Config, load
from bridge.contract import examples
from bridge.contract.events import ANY_EVENT
from bridge.contract.models import Call, CallList, Problem
from bridge.contract.openapi import WEBHOOKS
from bridge.contract.originating import OriginateBody
from bridge.contract.problems import KINDS
from bridge.contract.registrations import ANY_REGISTRATION_EVENT, REGISTRATION_TYPES
from bridge.contract.replies import read_reply
from bridge.engine.inputs import InvalidReply
from bridge.errors import ConfigurationError
from bridge.webhooks.signing import new_secret
from tests.docs.pages import BLOCKS, PAGES, Block, blocks, page
from tests.support.certificates import Authority

LANGUAGES = {"json", "yaml", "sh", "python", "text"}
ELLIPSIS = "…"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_in_a_language_that_is_checked(block: Block) -> None:
    assert block.language in LANGUAGES
    assert block.text.strip()


# JSON


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json(block: Block) -> None:
    check(json.loads(block.text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_json_in_backticks(page: Any) -> None:
    for line, word in page.words():
        if re.match(r'\{"\w', word):
            try:
                json.loads(word.replace(ELLIPSIS, "0"))
            except ValueError as error:
                raise AssertionError(f"{page.name}:{line}: {word}: {error}") from error


def check(shown: Any) -> None:
    """Find out what this is, and hold it against its model."""
    match shown:
        case {"to": _, **rest} if "direction" not in rest:
            OriginateBody.model_validate(shown)
        case {"actions": _}:
            read = read_reply(json.dumps(shown).encode(), "application/json")
            assert not isinstance(read, InvalidReply), read
        case {"type": str(kind), "data": {}}:
            model = next(model for model in WEBHOOKS if model.model_fields["type"].annotation.__args__[0] == kind)  # type: ignore[union-attr]
            known = ANY_REGISTRATION_EVENT if kind in REGISTRATION_TYPES else ANY_EVENT
            known.validate_python(filled(shown, examples.SCHEMAS[model.__name__][0]))
        case {"status": status, "code": code}:
            Problem.model_validate(filled(shown, examples.SCHEMAS["Problem"][0]))
            assert (status, shown["title"]) == (KINDS[code].status, KINDS[code].title)
        case {"data": list(), "next_cursor": _}:
            CallList.model_validate(shown)
        case {"direction": _}:
            Call.model_validate(shown)
        case _:
            raise AssertionError(f"what is this? {shown}")


def filled(shown: Any, whole: Any) -> Any:
    """`shown`, where it is shortened completed by what the contract's own example has there."""
    match shown, whole:
        case dict(), dict():
            return whole | {name: filled(value, whole.get(name)) for name, value in shown.items()}
        case str(), str() if ELLIPSIS in shown:
            assert whole.startswith(shown.partition(ELLIPSIS)[0]), f"{shown} is not like {whole}"
            return whole
    return shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"actions": [{"action": "dance"}]},
        {"actions": [{"action": "ring", "loud": True}]},
        {"type": "call.answered", "data": {"sequence": "two"}},
        {"type": "call.answered", "data": {"ringing_s": 1}},
        {"type": "call.answered", "data": {"call": {"state": "talking"}}},
        {"id": "event_…", "type": "call.answered", "data": {}},
        {"status": 409, "title": "Wrong state", "code": "ended"},
        {"to": "bob@example.com"},
        {"hello": "world"},
    ],
)
def test_wrong_json_is_noticed(wrong: Any) -> None:
    with pytest.raises((AssertionError, ValidationError)):
        check(wrong)


# YAML


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Where the examples' `/run/secrets` is."""
    (tmp_path / "ops-key").write_text("a key of the operators\n")
    (tmp_path / "alice").write_text("a password\n")
    (tmp_path / "carrier").write_text("another password\n")
    Authority(tmp_path).pair(file="tls")
    (tmp_path / "webhook-secret").write_text(f"{new_secret()}\n")
    return tmp_path


def read(text: str, place: Path, **environ: str) -> Config:
    file = place / "bridge.yaml"
    file.write_text(text.replace("/run/secrets", str(place)))
    return load(file=file, environ=environ, options={})


# Values of the chart begin with the name of their file; tests/packaging renders them.
@pytest.mark.parametrize("block", [each for each in blocks("yaml") if "values.yaml\n" not in each.text], ids=str)
def test_yaml(block: Block, secrets: Path) -> None:
    read(block.text, secrets)


def test_a_wrong_file_is_noticed(secrets: Path) -> None:
    with pytest.raises(ConfigurationError):
        read("media: {ports: 3}", secrets)


def test_the_complaint_that_is_shown_is_the_one_that_is_made(tmp_path: Path) -> None:
    shown = next(block for block in blocks("text") if block.text.startswith("sip-bridge: "))
    with pytest.raises(ConfigurationError) as caught:
        read("sip:\n  lisen: udp:0.0.0.0:5060\n", tmp_path)
    assert shown.text == f"sip-bridge: {caught.value}\n".replace(f"{tmp_path}/", "")


def test_the_three_spellings_of_a_value_mean_the_same(tmp_path: Path) -> None:
    rows = page("docs/configuration.md").table("Where a value comes from", "source")
    in_file, in_environment, in_command = (row[1].split("`")[1] for row in rows)
    variable, _, value = in_environment.partition("=")
    option, argument = in_command.split()
    wanted = read(in_file, tmp_path)
    assert str(wanted.sip.advertise) == "192.0.2.10"
    assert read("", tmp_path, **{variable: value}) == wanted
    path = tuple(option.removeprefix("--").split("."))
    assert load(file=None, environ={}, options={path: (option, [argument])}) == wanted
