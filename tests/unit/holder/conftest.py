"""A door for puppets, and the agent's own namespaces."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from secret_agent.holder import Namespaces
from support.puppets import Door


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with Door(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def own() -> Namespaces:
    return Namespaces.own()
