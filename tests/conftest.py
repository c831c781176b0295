"""Fixtures that tests of every folder share, and the sweep for canaries after each test.

home       a SECRET_AGENT_HOME with the command line in it and no agent
agent      a real agent of this test alone; its session is new
unlocked   the same, with a store and an open session
shared     one unlocked agent for all tests of a module that get on with each other
"""

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # conftest is imported before `pythonpath` holds

from support.agent import LIVE, Agent, Home

# A fixed budget, and no deadline an example: machines are loaded.  `fuzz` is for the fuzz lane.
settings.register_profile("suite", max_examples=100, deadline=None, print_blob=True)
settings.register_profile("fuzz", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need root are for the root lane; elsewhere they fail for the wrong reason."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Sweep every live home while its agent still runs; fixtures are torn down all the same."""
    hits = [hit for home in list(LIVE) for hit in home.sweep()]
    yield
    assert not hits, f"{item.name}: a planted value is in: {hits}"


@pytest.fixture
def home() -> Iterator[Home]:
    made = Home()
    yield made
    made.close()


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as started:
        yield started


@pytest.fixture
def unlocked() -> Iterator[Agent]:
    with Agent() as started:
        started.unlock()
        yield started


@pytest.fixture(scope="module")
def shared() -> Iterator[Agent]:
    with Agent() as started:
        started.unlock()
        yield started
