"""The `trunks` of the configuration: far SIP systems that calls go by (contract §5)."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from bridge.calls.actions import Credentials
from bridge.contract import trunks as contract
from bridge.contract.headers import one_line
from bridge.engine import trunks as engine
from bridge.settings.values import Name, Secret, Section


class TrunkAuth(Section):
    """What we prove ourselves with."""

    username: Annotated[str, Field(min_length=1, max_length=256), AfterValidator(one_line)] = Field(
        description="as the trunk's operator gave it"
    )
    password: Secret = Field(description="the password, or {file: path}")


class Trunk(contract.TrunkFields, Section):
    """A far SIP system that calls go by."""

    name: Name = Field(description="what `dial` calls it by")
    auth: TrunkAuth | None = Field(default=None, description="what we prove ourselves with where the trunk asks for it")

    def as_engine(self) -> engine.Trunk:
        """As the engine says it."""
        auth = self.auth
        credentials = None if auth is None else Credentials(auth.username, auth.password.get_secret_value())
        return self.to_trunk(self.name, credentials)
