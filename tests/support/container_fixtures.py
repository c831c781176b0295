"""Fixtures of the container tests, to be imported by the modules that want them.

engine      podman with an image in it, one a module: making it costs a second
first_desk  an unlocked agent with two secrets, one a module
desk        the same with a folder of this test's; what it delegated ends with it
lone_desk   an agent of this test alone, for what ends or locks it
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.agent import Agent
from support.containers import Engine
from support.scoped import Desk, build_client, short_folder


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as started:
        yield started


@contextmanager
def _open_desk(engine: Engine) -> Iterator[Desk]:
    folder = short_folder()
    try:
        with Agent() as agent:
            agent.unlock()
            made = Desk(agent, engine, build_client(folder), folder)
            made.fill()
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def first_desk(engine: Engine) -> Iterator[Desk]:
    with _open_desk(engine) as made:
        yield made


@pytest.fixture
def desk(first_desk: Desk) -> Iterator[Desk]:
    folder = short_folder()
    yield first_desk.beside(folder)
    first_desk.agent.call("revoke", {"all": True})
    shutil.rmtree(folder)


@pytest.fixture
def lone_desk(engine: Engine) -> Iterator[Desk]:
    with _open_desk(engine) as made:
        yield made
