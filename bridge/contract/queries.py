"""The query parameters of lists, as pydantic models: what may be asked, within which bounds (contract §2, "Lists").

An unknown parameter is refused like an unknown field: a misspelt filter must not read as no filter. Knows nothing of
what a cursor holds.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from bridge.calls.facts import CallState, Direction

LIMIT_DEFAULT = 100
LIMIT_MAX = 500


def _digits(text: Any) -> int:
    if isinstance(text, int):
        return text
    if len(text) <= 9 and text.isascii() and text.isdigit():
        return int(text)
    raise PydanticCustomError("whole_number", "should be a whole number")


class PageQuery(BaseModel):
    """Which part of a list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[
        int,
        Field(ge=1, le=LIMIT_MAX, description="At most this many. A page may hold fewer, and still have a next one."),
        BeforeValidator(_digits),
    ] = LIMIT_DEFAULT
    cursor: Annotated[
        str | None,
        Field(max_length=400, pattern=r"^[A-Za-z0-9_-]+$", description="`next_cursor` of the page before. Opaque."),
    ] = None


class CallsQuery(PageQuery):
    """Which calls."""

    state: Annotated[CallState | None, Field(description="Only calls in this state.")] = None
    direction: Annotated[Direction | None, Field(description="Only calls of this direction.")] = None
    application: Annotated[str | None, Field(max_length=128, description="Only calls of this application.")] = None
