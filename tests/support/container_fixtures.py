"""Fixtures of the container tests, to be imported by the modules that want them.

engine   podman with an image in it, one a module: making it costs a second
desk     an unlocked agent of this test alone, with the engine and a folder
"""

import shutil
from collections.abc import Iterator

import pytest

from support.agent import Agent
from support.containers import Engine
from support.scoped import Desk, short_folder


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as started:
        yield started


@pytest.fixture
def desk(engine: Engine) -> Iterator[Desk]:
    folder = short_folder()
    try:
        with Agent() as agent:
            agent.unlock()
            yield Desk(agent, engine, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
