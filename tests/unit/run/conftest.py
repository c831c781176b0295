"""Fixtures of the tests of `run`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.run.driving import AgentSide, Driver, agent_side


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentSide]:
    """Not a real agent: the test itself."""
    with agent_side(tmp_path) as side:
        yield side
