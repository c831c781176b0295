"""Real programs from outside this repository that tests drive.

On a developer's machine a missing program skips its tests, and pytest says which.  Where CI=true
nothing may be missing: there a skipped test would be a promise that nobody checked.
"""

import os
import shutil

import pytest

_ADMIN = ":/usr/local/sbin:/usr/sbin:/sbin"  # an ordinary user's PATH often lacks runc's place


def need(program: str) -> str:
    """The path of a program; skips the test without it, and fails it where CI=true."""
    found = shutil.which(program, path=os.environ.get("PATH", os.defpath) + _ADMIN)
    if found is not None:
        return found
    reason = f"{program} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}: .ci/run must install it")
    pytest.skip(reason)
