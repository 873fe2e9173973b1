"""What every webhook body has in common (contract §3): an envelope round `data`, as Standard Webhooks 1.0.0 suggests."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bridge.contract.models import EventIdText, Resource, Timestamp

API_VERSION = "1"


class Envelope(Resource):
    """What every webhook body is."""

    id: Annotated[EventIdText, Field(description="The same on every attempt, and in the header `webhook-id`.")]
    timestamp: Annotated[Timestamp, Field(description="When it happened.")]
    api_version: Literal["1"]
