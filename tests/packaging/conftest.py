"""What the packaging tests stand on: the image, built once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.docs.pages import ROOT
from tests.packaging.image import Image, copy_context, why_not


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image of this tree. Skipped where it cannot be built; with CI=true that is a failure."""
    if reason := why_not():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    context, place = tmp_path_factory.mktemp("context"), tmp_path_factory.mktemp("image")
    copy_context(ROOT, context)
    with Image(ROOT / "Dockerfile", context, place=place) as image:
        yield image
