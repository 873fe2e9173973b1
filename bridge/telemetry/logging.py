"""The log: one line for each thing that happened, JSON for machines or text for a person; a `call` on all that concern one.

Configured once, by whoever starts the process; every other part only asks structlog for a logger. What libraries say
through the standard library's `logging` takes the same way. No line carries a secret (`bridge.telemetry.secrets`), and
nothing a caller sends can move the cursor of the terminal it is read in.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from typing import Any, Final, Literal, TextIO

import structlog
from pydantic_core import PydanticSerializationError, to_json
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from bridge.calls.facts import CallId
from bridge.engine.effects import Dropped, Noted
from bridge.telemetry.secrets import Masker

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["json", "console"]

_LEVELS: Final[dict[Level, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_MULTILINE = ("exception", "stack")  # what may span lines: it is ours


def configure(*, level: Level, format: Format, secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:  # noqa: A002
    """Send every line of this process that is at least `level` to `stream` (stderr if None).

    `secrets` are the configured ones: wherever one turns up in a line, it is masked.
    """
    chain: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _call_key,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        Masker(secrets),  # after everything that adds foreign text, before what only we add
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _logger_name,
        *_renderers(format, colors=(stream or sys.stderr).isatty()),
    ]
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *names: Sink(stream, names[0] if names else "bridge"),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Library(chain, stream)]
    root.setLevel(_LEVELS[level])
    logging.captureWarnings(capture=True)


def for_call(logger: FilteringBoundLogger, call: CallId) -> FilteringBoundLogger:
    """`logger` with the call on each of its lines."""
    return logger.bind(call=call)


def write(logger: FilteringBoundLogger, said: Noted | Dropped) -> None:
    """What the engine has to say. It has no logger of its own."""
    match said:
        case Noted(level, event, call, facts):
            about = {} if call is None else {"call": call}
            # A fact may be called like a parameter of the logger itself: it must not end as a TypeError.
            logger.log(_LEVELS[level], event, **about, **{_free(name): value for name, value in facts})
        case Dropped(reason, flow, detail):
            logger.debug("dropped", reason=reason, source=None if flow is None else str(flow), detail=detail)


class Sink:
    """Where rendered lines go. A log that cannot be written is lost; the calls are not."""

    __slots__ = ("_stream", "name")

    def __init__(self, stream: TextIO | None, name: str) -> None:
        self._stream = stream
        self.name = name

    def msg(self, line: str) -> None:
        """Write one line at once."""
        stream = self._stream or sys.stderr  # looked up each time: whoever redirects stderr means us too
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):
            return  # a closed terminal, a full disk, a broken pipe: nobody is left to be told

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


class _Library(logging.Handler):
    """What libraries log, through the same processors."""

    def __init__(self, chain: list[Processor], stream: TextIO | None) -> None:
        super().__init__()
        self._chain = chain
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        sink = Sink(self._stream, record.name)
        line: Any = {"event": record.getMessage()}
        if record.exc_info:
            line["exc_info"] = record.exc_info
        for processor in self._chain:
            line = processor(sink, record.levelname.lower(), line)
        sink.msg(line)


def _logger_name(logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    line.setdefault("logger", logger.name)
    return line


def _call_key(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """One name for it on every line, whatever the line's author called it."""
    if "call_id" in line:
        line.setdefault("call", line.pop("call_id"))
    return line


def _renderers(kind: Format, *, colors: bool) -> list[Processor]:
    if kind == "json":
        return [structlog.processors.JSONRenderer(serializer=_json)]
    # Nothing is left for the renderer to format: what reaches it is masked text.
    return [_one_line, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]


def _json(line: EventDict, **_options: object) -> str:
    try:
        return to_json(line, inf_nan_mode="null").decode()
    except PydanticSerializationError:
        return json.dumps(line)  # a lone surrogate: bytes of the wire that are no UTF-8, escaped


def _one_line(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Escape what a terminal would act on: a From header must not forge a line, or recolour the screen."""
    return {key: value if key in _MULTILINE else _shown(value) for key, value in line.items()}


def _shown(value: object) -> object:
    match value:
        case str():
            if value.isprintable():
                return value
            return "".join(it if it.isprintable() else f"\\u{ord(it):04x}" for it in value)
        case dict():
            return {_shown(key): _shown(item) for key, item in value.items()}
        case list():
            return [_shown(item) for item in value]
    return value


def _free(name: str) -> str:
    return f"{name}_" if name in ("event", "level", "call", "exc_info", "stack_info") else name
