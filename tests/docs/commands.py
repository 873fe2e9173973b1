"""Command lines as the pages show them, checked without being run: programs, options, values, URLs, bodies."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import click
import pytest

from bridge import cli
from bridge.config import keys
from bridge.contract.operations import OPERATIONS, Operation
from bridge.contract.originating import KEY_PATTERN
from tests.docs.pages import ROOT

FOREIGN = {"baresip", "linphonec", "pip", "apt", "ss", "kubectl"}  # programs that are not ours to check
ELSEWHERE = {"helm"}  # run by tests/packaging, as written
PLACEHOLDER = "…"


@cache
def make_targets() -> frozenset[str]:
    """What `make` can be asked for: the targets that `make help` lists."""
    return frozenset(re.findall(r"^([a-z-]+):.*?## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def options_of(command: str) -> set[str]:
    """The names of a command's options."""
    return {name for parameter in cli.main.commands[command].params for name in parameter.opts if name.startswith("--")}


def lines_of(text: str) -> Iterator[str]:
    """The commands of a block: continued lines joined, comments left out."""
    for line in text.replace("\\\n", " ").splitlines():
        if shlex.split(line, comments=True):
            yield line


def check_command(line: str) -> None:
    """AssertionError, or click's own, where this command line could not be run as it stands."""
    words = shlex.split(line, comments=True)
    while "=" in words[0]:
        _check_variable(words.pop(0), words)
    program, *arguments = words
    match Path(program).name:
        case "make":
            assert arguments, line
            assert set(arguments) <= make_targets(), line
        case "sip-bridge":
            _check_ours(arguments)
        case "python":
            assert (ROOT / arguments[0]).is_file(), line
        case "curl":
            _check_request(arguments)
        case "docker":
            _check_docker(arguments)
        case name:
            assert name in FOREIGN | ELSEWHERE, f"{line}: what is {name}?"


def _check_variable(assignment: str, words: list[str]) -> None:
    """A variable in front of a command means something to the example that is run."""
    script = next(word for word in words if word.endswith(".py"))
    assert f'"{assignment.partition("=")[0]}"' in (ROOT / script).read_text(encoding="utf-8"), assignment


def _check_ours(arguments: list[str]) -> None:
    name, *rest = arguments
    assert name in cli.main.commands, f"sip-bridge has no command {name}"
    command = cli.main.commands[name]
    if PLACEHOLDER in rest:
        rest.remove(PLACEHOLDER)
    required = any(isinstance(parameter, click.Argument) and parameter.required for parameter in command.params)
    if not rest and required:
        return  # the command itself is meant
    given = command.make_context(name, rest).params
    if "config_file" in given:
        file = given.pop("config_file")
        if file is None:  # else the file is the reader's
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("os.environ", {})
                cli.read_configuration(None, given)


def _check_docker(arguments: list[str]) -> None:
    """What follows the image is a command of ours, and variables are keys."""
    name, *rest = arguments
    assert name in ("build", "push", "run"), name
    for option, value in pairwise(rest):
        if option == "--env":
            variable = value.partition("=")[0]
            assert variable.removeprefix("BRIDGE_").lower().replace("__", ".") in {key.name for key in keys()}, value
    if name == "run":
        _check_ours(rest[rest.index("sip-bridge") + 1 :])


def _check_request(arguments: list[str]) -> None:
    """The operation exists, and takes this body."""
    method, body, urls, headers = None, None, list[str](), dict[str, str]()
    while arguments:
        match arguments.pop(0):
            case "-X":
                method = arguments.pop(0)
            case "-H":
                name, _, value = arguments.pop(0).partition(": ")
                headers[name.lower()] = value
            case "-d":
                body = arguments.pop(0)
            case url:
                urls.append(url)
    assert len(urls) == 1, urls
    parts = urlsplit(urls[0])
    assert (parts.scheme, parts.netloc) == ("http", "127.0.0.1:8080"), parts
    operation = find_operation(method or ("POST" if body else "GET"), parts.path)
    assert operation is not None, f"no such operation: {method} {parts.path}"
    known = {"authorization", "content-type", *(["idempotency-key"] if operation.idempotent else [])}
    assert set(headers) <= known, headers
    assert re.fullmatch(KEY_PATTERN, headers.get("idempotency-key", "none")), headers
    assert headers.get("authorization", "Bearer ").startswith("Bearer "), headers
    if operation.query is not None:
        operation.query.model_validate(dict(parse_qsl(parts.query)))
    if body is not None:
        assert operation.body is not None, f"{operation.id} takes no body"
        assert headers["content-type"] == "application/json"
        operation.body.model_validate_json(body)
        json.loads(body)
    elif operation.body is not None:
        operation.body.model_validate({})


def find_operation(method: str, path: str) -> Operation | None:
    """The operation of a request; ids in the path may be placeholders."""
    for operation in OPERATIONS:
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(operation.path))
        if operation.method == method and re.fullmatch(pattern, path):
            return operation
    return None
