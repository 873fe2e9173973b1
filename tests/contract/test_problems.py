"""The closed list of problems."""

from __future__ import annotations

from typing import get_args

import pytest

from bridge.contract.events import FAILURES
from bridge.contract.models import Problem
from bridge.contract.operations import OPERATIONS
from bridge.contract.problems import KINDS, Code, page, problem
from bridge.contract.refusals import Refusal


def test_the_table_is_total() -> None:
    assert set(KINDS) == set(get_args(Code))


@pytest.mark.parametrize("code", KINDS)
def test_every_code_has_its_place_on_the_page(code: Code) -> None:
    assert f"\n## {code}\n" in page()
    assert problem(code, "so it is")["type"] == f"/docs/errors#{code}"


@pytest.mark.parametrize("failure", FAILURES)
def test_every_failure_of_an_action_is_on_the_page(failure: str) -> None:
    assert f"\n## action.failed: {failure}\n" in page()


@pytest.mark.parametrize("code", KINDS)
def test_a_problem_is_of_its_published_shape(code: Code) -> None:
    made = problem(code, "so it is", call_id="call_1", refusals=(Refusal("actions.0", "should be an object", "5"),))
    read = Problem.model_validate(made)
    assert (read.status, read.code, read.call_id) == (KINDS[code].status, code, "call_1")
    assert read.errors is not None
    assert read.errors[0].detail == "should be an object; received 5"


def test_operations_name_only_listed_codes() -> None:
    assert {code for operation in OPERATIONS for code in operation.problems} <= set(KINDS)
