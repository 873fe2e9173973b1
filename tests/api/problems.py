"""Reading a problem, and insisting that it is one."""

from __future__ import annotations

from aiohttp import ClientResponse

from bridge.contract.models import Problem


async def problem_of(response: ClientResponse) -> Problem:
    assert response.content_type == "application/problem+json"
    problem = Problem.model_validate_json(await response.read())
    assert problem.status == response.status
    assert problem.type == f"/docs/errors#{problem.code}"
    return problem
