"""What is wrong with a configuration, in lines a person can act on: where it stands, the key, and what would be right.

Reads pydantic's errors and never repeats a value, for it may be a secret.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bridge.settings.sources import KeyPath, Source, dotted, source_of

ERRORS_MAX = 20  # the rest is told as a number


def complaints(
    error: ValidationError, model: type[BaseModel], sources: Sequence[Source], *, later: Collection[str], version: str
) -> str:
    """One line for each error, in the order of the model's keys; `sources` come strongest first."""
    details = _without_echoes(error.errors(include_url=False, include_input=False))
    lines = [_line(detail, model, sources, later=later, version=version) for detail in details[:ERRORS_MAX]]
    if len(details) > ERRORS_MAX:
        lines.append(f"... and {len(details) - ERRORS_MAX} more")
    return "\n".join(lines)


def _without_echoes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """A list whose only element is wrong is not empty too."""
    paths = [detail["loc"] for detail in details]

    def is_echo(detail: ErrorDetails) -> bool:
        own = detail["loc"]
        return detail["type"] == "too_short" and any(len(path) > len(own) and path[: len(own)] == own for path in paths)

    return [detail for detail in details if not is_echo(detail)]


def _line(
    detail: ErrorDetails, model: type[BaseModel], sources: Sequence[Source], *, later: Collection[str], version: str
) -> str:
    path: KeyPath = detail["loc"]
    source = source_of(path, sources)
    place = source.place(path) if source is not None else None
    if detail["type"] == "extra_forbidden":
        what = _unknown(path, model, source, later=later, version=version)
    elif detail["type"] == "value_error":
        what = str(
            detail["ctx"]["error"]
        )  # ours, written for the operator; pydantic would put 'Value error, ' before it
    else:
        what = detail["msg"]
    key = dotted(path)
    return ": ".join(part for part in (place, key if key != place else "", what) if part)


def _unknown(
    path: KeyPath, model: type[BaseModel], source: Source | None, *, later: Collection[str], version: str
) -> str:
    key = _pattern(path)
    if key in later:
        return f"not in this release ({version}) yet: remove it"
    known = [known for known, _ in key_paths(model)]
    nearest = _nearest(path, known)
    if nearest is not None:
        return (
            f"no such key; did you mean {source.spelling(nearest) if source and 0 not in nearest else dotted(nearest)}?"
        )
    here = sorted({str(other[len(path) - 1]) for other in known if _within(other, path[:-1])})
    return f"no such key; here can stand: {', '.join(here)}" if here else "no such key"


def _nearest(path: KeyPath, known: Sequence[KeyPath]) -> KeyPath | None:
    """The key that was probably meant: one of the same section, one of this name elsewhere, one that reads alike."""
    siblings = {str(other[-1]): other for other in known if len(other) == len(path) and _within(other, path[:-1])}
    for name in get_close_matches(str(path[-1]), siblings, n=1):
        return siblings[name]
    for other in known:
        if other[-1] == path[-1]:
            return other
    if len(path) > 1:
        return None
    # At the top an underscore often stands where a step should be: BRIDGE_SIP_LISTEN.
    alike = {_pattern(other).replace("_", "."): other for other in known}
    for name in get_close_matches(_pattern(path).replace("_", "."), alike, n=1):
        return alike[name]
    return None


def key_paths(model: type[BaseModel], at: KeyPath = ()) -> Iterator[tuple[KeyPath, FieldInfo]]:
    """Every key of `model`, section by section; the keys of a list's elements stand under index 0."""
    for name, field in model.model_fields.items():
        path = (*at, field.alias or name)
        section, listed = _section(field.annotation)
        if section is None or listed:
            yield path, field
        if section is not None:
            yield from key_paths(section, (*path, 0) if listed else path)


def _section(annotation: object) -> tuple[type[BaseModel] | None, bool]:
    """The model a key's value is made of, and whether the value is a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for argument in get_args(annotation):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument, annotation is not None and getattr(annotation, "__origin__", None) in (tuple, list)
    return None, False


def _pattern(path: KeyPath) -> str:
    return ".".join(str(step) for step in path if isinstance(step, str))


def _within(path: KeyPath, section: KeyPath) -> bool:
    steps = tuple(0 if isinstance(step, int) else step for step in section)
    return len(path) > len(steps) and path[: len(steps)] == steps
