"""Every command line of the pages could be run as it stands."""

from __future__ import annotations

import click
import pytest
from pydantic import ValidationError

from tests.docs.commands import check_command, lines_of
from tests.docs.pages import Block, blocks


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_commands(block: Block) -> None:
    lines = list(lines_of(block.text))
    assert lines
    for line in lines:
        check_command(line)


@pytest.mark.parametrize(
    "wrong",
    [
        "make dem",
        "make",
        "sip-brige serve",
        "sip-bridge serv",
        "sip-bridge serve --webhok http://127.0.0.1:3000/calls",
        "sip-bridge serve --webhook ftp://127.0.0.1/calls",
        "sip-bridge call sip:100@127.0.0.1 --seconds soon",
        ".venv/bin/python examples/anser.py",
        "WEBHOOK_SECRT=x .venv/bin/python examples/answer.py",
        "curl http://127.0.0.1:8080/v1/cals",
        "curl -X PUT http://127.0.0.1:8080/v1/calls",
        "curl http://127.0.0.1:8081/v1/calls",
        "curl -H 'Authorisation: Bearer x' http://127.0.0.1:8080/v1/calls",
        "curl -X POST http://127.0.0.1:8080/v1/calls/call_x/actions",
        "curl http://127.0.0.1:8080/v1/calls/call_x/reject -H 'Content-Type: application/json' -d '{\"cod\": 486}'",
        "frobnicate",
    ],
)
def test_a_wrong_command_is_noticed(wrong: str) -> None:
    with pytest.raises((AssertionError, click.ClickException, ValidationError, SystemExit, KeyError)):
        check_command(wrong)
