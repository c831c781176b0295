"""Fixtures for tests of the client: a short folder of its own, with a socket's path in it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fake_agent import short_folder


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The SECRET_AGENT_HOME of this test; no other variable of ours is set."""
    for name in list(os.environ):
        if name.startswith("SECRET_AGENT_"):
            monkeypatch.delenv(name)
    with short_folder() as made:
        monkeypatch.setenv("SECRET_AGENT_HOME", str(made))
        yield made


@pytest.fixture
def socket_path(folder: Path) -> Path:
    return folder / "agent.sock"
