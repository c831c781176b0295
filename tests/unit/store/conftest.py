"""Cheap stretching for every test of the store but those that ask for the real cost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from secret_agent.store import keys
from unit.store.workshop import Workshop


@pytest.fixture(autouse=True)
def _cheap(request: pytest.FixtureRequest) -> Iterator[None]:
    if "real_cost" in request.fixturenames:
        yield
        return
    with keys._for_tests_cheap():
        yield


@pytest.fixture
def real_cost() -> None:
    """Asked for by a test that wants the real cost."""


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)
