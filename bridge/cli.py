"""The `sip-bridge` command: serve, drain, demo, call, phone, doctor, openapi.

Turns options into configuration and exit codes, and hands over at once: `serve` becomes the supervisor, which starts
`signalling` with what it has read. Each command imports what it needs when it runs: `serve` needs little, and a process that has to
take over needs it soon. Refuses to know how anything is done. Exit codes (contract §5): 2 wrong
configuration, 1 could not start, 0 clean stop; 70 is a crash, which the supervisor answers with a restart.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import structlog

from bridge import __version__
from bridge.config import Config, Key, keys, load
from bridge.errors import ConfigurationError, StartError
from bridge.settings.sources import KeyPath
from bridge.supervisor import Plan
from bridge.telemetry.logging import configure

log = structlog.get_logger("bridge.signalling")

NOT_STARTED = 1
MISCONFIGURED = 2

F = TypeVar("F", bound=Callable[..., Any])

SHORTHANDS: tuple[tuple[str, KeyPath, str, str], ...] = (
    ("--webhook", ("webhooks", "url"), "URL", "Short for --webhooks.url: it decides about every call."),
    ("--listen", ("sip", "listen"), "udp:HOST:PORT, tcp:HOST:PORT", "Short for --sip.listen; may be repeated."),
)


def _settable() -> list[Key]:
    return [key for key in keys() if not any(isinstance(step, int) for step in key.path)]


def _parameter(path: KeyPath) -> str:
    return "key__" + "__".join(str(step) for step in path)


def configured(command: F) -> F:
    """Give a command every key of the configuration as an option, and `--config`."""
    for key in reversed(_settable()):
        default = f"  [default: {key.default}]" if key.default else ""
        option = click.option(
            f"--{key.name}", _parameter(key.path), multiple=True, metavar="VALUE", help=f"{key.description}{default}"
        )
        command = option(command)
    for name, path, metavar, text in reversed(SHORTHANDS):
        command = click.option(name, "short" + _parameter(path), multiple=True, metavar=metavar, help=text)(command)
    return click.option(
        "--config",
        "config_file",
        envvar="BRIDGE_CONFIG",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="YAML file; environment (BRIDGE_SIP__LISTEN=...) and options win over it.",
    )(command)


def read_configuration(config_file: Path | None, given: dict[str, Sequence[str]]) -> Config:
    """The configuration as this command line asks for it, or the end of the process with code 2."""
    options: dict[KeyPath, tuple[str, Sequence[str]]] = {}
    for key in _settable():
        if texts := given[_parameter(key.path)]:
            options[key.path] = (f"--{key.name}", texts)
    for name, path, _, _ in SHORTHANDS:
        if texts := given["short" + _parameter(path)]:
            if path in options:
                raise click.UsageError(f"{name} and {options[path][0]} say the same thing: give one of them")
            options[path] = (name, texts)
    try:
        return load(file=config_file, environ=os.environ, options=options)
    except ConfigurationError as error:
        _end(str(error), MISCONFIGURED)


def _end(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        click.echo(f"sip-bridge: {line}", err=True)
    sys.exit(code)


def _epilog() -> str:
    """Keys that live in lists, which a file says better than an option."""
    listed = [key for key in keys() if any(isinstance(step, int) for step in key.path)]
    width = max(len(key.name) for key in listed) + 2
    lines = [
        f"{key.name:<{width}}{key.description}" + (f"  [default: {key.default}]" if key.default else "")
        for key in listed
    ]
    return "\b\nKeys of lists, for the file:\n" + "\n".join(lines)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="sip-bridge")
def main() -> None:
    """Answer SIP calls with an HTTP application."""


@main.command(epilog=_epilog())
@configured
def serve(config_file: Path | None, **given: Sequence[str]) -> None:
    """Run the service: SIP on one side, webhooks and REST on the other.

    Every key below can stand in the --config file, in the environment (sip.listen as BRIDGE_SIP__LISTEN) and here;
    what stands further right wins. A list is written with commas, or as YAML or JSON.
    """
    config = read_configuration(config_file, given)
    plan = Plan(
        data_dir=str(config.data_dir.absolute()),
        node_id=config.node_id,
        embedded=config.store.is_embedded,
        media_bind=config.media_bind,
        media_ports=tuple(",".join(str(ports) for ports in share) for share in config.media.slices()),
        media_timeout_s=config.media.timeout_s,
        config=config.to_json(),
        log_level=config.log.level,
        log_as_json=config.log.as_json(terminal=sys.stderr.isatty()),
    )
    # The supervisor replaces us: it needs none of what reading a configuration has loaded.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as handed_over:
        handed_over.write(plan.to_json())
        handed_over.flush()
        handed_over.seek(0)
        os.dup2(handed_over.fileno(), 0)
    os.execv(sys.executable, [sys.executable, "-m", "bridge.supervisor"])  # noqa: S606 -- ourselves, no shell


@main.command(hidden=True)
@click.option("--node-id", required=True, help="Our name.")
@click.option("--store-url", help="Of the embedded store; without it the configuration's.")
@click.option("--worker", "workers", multiple=True, type=click.Path(path_type=Path), help="A media worker's socket.")
def signalling(node_id: str, store_url: str | None, workers: tuple[Path, ...]) -> None:
    """What the supervisor starts: SIP, REST, webhooks and store, its configuration on standard input."""
    from bridge import service

    config = Config.from_json(sys.stdin.buffer.read())
    as_json = config.log.as_json(terminal=sys.stderr.isatty())
    configure(level=config.log.level, format="json" if as_json else "console", secrets=config.all_secrets)
    url = store_url or config.store.url.get_secret_value()
    try:
        sys.exit(service.run(config, node_id=node_id, store_url=url, workers=workers))
    except ConfigurationError as error:
        log.error("misconfigured", detail=str(error))
        sys.exit(MISCONFIGURED)
    except StartError as error:
        log.error("not_started", detail=str(error))
        sys.exit(NOT_STARTED)
    except Exception:  # whatever it is, its exit code must not look like a refusal to start
        log.critical("crashed", exc_info=True)
        sys.exit(service.CRASHED)


@main.command()
@configured
def doctor(config_file: Path | None, **given: Sequence[str]) -> None:
    """Look at what `serve` with the same options would need, and say what to do. Changes nothing."""
    from bridge.doctor import Verdict, examine

    config = read_configuration(config_file, given)
    findings = asyncio.run(examine(config))
    for finding in findings:
        click.echo(f"{finding.verdict.value:<5} {finding.subject}: {finding.text}")
    sys.exit(NOT_STARTED if any(finding.verdict is Verdict.FAILURE for finding in findings) else 0)


@main.command()
@click.option("--node", "node_id", metavar="ID", help="Which node.  [default: the one that answers]")
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The API of any node.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="Holds a key of scope admin.  [default: the variable SIP_BRIDGE_KEY]",
)
@click.option("--wait", is_flag=True, help="Stay until the node is empty, and say how much is left.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Wait so many seconds at most.")
def drain(node_id: str | None, url: str, key_file: Path | None, wait: bool, timeout: float | None) -> None:
    """Empty a node: it takes nothing new and hands its calls over to the others. No call is ended.

    It stays like that until it is stopped or started anew. Exit code 0: it drains, or is empty with --wait; 1: it could
    not be asked, or is gone; 2: wrong options; 3: the --timeout is over and it is not empty.
    """
    from bridge.operating import drain as drain_node

    if timeout is not None and not wait:
        raise click.UsageError("--timeout says how long to --wait: give both")
    try:
        key = os.environ.get("SIP_BRIDGE_KEY", "").strip() if key_file is None else _secret(key_file, "key")
        sys.exit(drain_node(url, key, node_id, wait=wait, timeout_s=timeout, say=click.echo))
    except StartError as error:
        _end(str(error), NOT_STARTED)


@main.command()
def openapi() -> None:
    """Print the OpenAPI 3.1 document of the REST API and the webhooks."""
    from bridge.contract.openapi import document

    click.echo(json.dumps(document(), indent=2, ensure_ascii=False))


@main.command()
@click.option("--stay", is_flag=True, help="Keep the bridge and the application up, for a phone of your own.")
@click.option(
    "--host", default=None, help="Where the bridge listens for SIP.  [default: 127.0.0.1; 0.0.0.0 with --stay]"
)
@click.option("--port", type=int, default=None, help="And on which port.  [default: a free one; 5060 with --stay]")
@click.option("--data-dir", type=click.Path(path_type=Path), default=None, help="What to keep afterwards, and where.")
def demo(stay: bool, host: str | None, port: int | None, data_dir: Path | None) -> None:
    """Run a bridge, an application and two phones, and show a whole call as it happens."""
    from bridge.demo.running import demo as run_demo

    host = host or ("0.0.0.0" if stay else "127.0.0.1")  # noqa: S104 -- a phone of one's own is elsewhere
    port = port if port is not None else (5060 if stay else None)
    try:
        sys.exit(run_demo(stay=stay, host=host, port=port, data_dir=data_dir, say=click.echo))
    except StartError as error:
        _end(str(error), NOT_STARTED)


@main.command()
@click.argument("uri")
@click.option("--user", default="phone", show_default=True, help="Who calls: the user part of From.")
@click.option("--host", default=None, help="Our own address.  [default: the one that reaches the URI]")
@click.option("--seconds", type=float, default=5.0, show_default=True, help="How long to talk before hanging up.")
@click.option(
    "--timeout",
    type=float,
    default=None,
    help="Give up when not answered within so many seconds.  [default: while it rings; 32 s where nobody is heard]",
)
@click.option("--delayed-offer", is_flag=True, help="Let the far end make the SDP offer.")
def call(uri: str, *, user: str, host: str | None, seconds: float, timeout: float | None, delayed_offer: bool) -> None:
    """Place a call to a SIP URI from a small soft phone, and show it as a ladder. A tone is what it says.

    Ctrl-C hangs up. Exit code 0: the call was answered.
    """
    from bridge.calling import place_call

    try:
        sys.exit(
            place_call(
                uri, user=user, host=host, seconds=seconds, timeout_s=timeout, offers=not delayed_offer, say=click.echo
            )
        )
    except (StartError, ValueError) as error:
        _end(str(error), NOT_STARTED)


@main.command()
@click.option("--register", "uri", metavar="URI", help="Register for this address: sip:alice@127.0.0.1:5060.")
@click.option(
    "--password-file", type=click.Path(path_type=Path), help="Holds the password.  [default: the variable SIP_PASSWORD]"
)
@click.option("--username", help="Who proves it.  [default: the user part of the URI]")
@click.option("--user", help="The user part of its own address.  [default: that of the URI; else phone]")
@click.option("--host", help="Our own address.  [default: the one that reaches the registrar; else 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="And our port.  [default: a free one]")
@click.option(
    "--answer-after", type=click.FloatRange(0), default=1.0, show_default=True, help="How many seconds it rings."
)
@click.option("--reject", type=click.IntRange(400, 699), help="Reject calls with this code instead: 486 is busy.")
def phone(
    uri: str | None,
    *,
    password_file: Path | None,
    username: str | None,
    user: str | None,
    host: str | None,
    port: int,
    answer_after: float,
    reject: int | None,
) -> None:
    """Be a small soft phone that is called, and show what it gets and says as a ladder. A tone is what it says.

    Ctrl-C hangs up, unregisters and ends it. Exit code 0: it could be called until then.
    """
    from bridge.calling import Account, Manner, wait_for_calls
    from bridge.phone.softphone import callable_uri

    try:
        account = None
        if uri is not None:
            account = Account(uri, username, _password(password_file))
            user = user or callable_uri(uri).user
        manner = Manner(user or "phone", host, port, answer_after, reject)
        sys.exit(wait_for_calls(manner, account, say=click.echo))
    except (StartError, ValueError) as error:
        _end(str(error), NOT_STARTED)


def _password(file: Path | None) -> str:
    """From a file or the environment: what stands on a command line, everybody on the machine can read."""
    if file is None:
        password = os.environ.get("SIP_PASSWORD")
        if not password:
            raise StartError("a password is needed to register: --password-file FILE, or the variable SIP_PASSWORD")
        return password
    return _secret(file, "password")


def _secret(file: Path, what: str) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"the {what} cannot be read: {error}") from error
