"""A folder as the log wants it."""

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ours alone."""
    tmp_path.chmod(0o700)
    return tmp_path
