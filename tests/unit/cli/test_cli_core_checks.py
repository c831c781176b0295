"""What doctor tries by itself: each line's states, and that nothing ends the list."""

import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from secret_agent_client.cli import checks
from secret_agent_client.cli.checks import Check, machine_checks

NAMES = [
    "folders",
    "memory locking",
    "clocks",
    "session bus",
    "system bus",
    "lock detection",
    "keyring",
    "swap",
    "ptrace",
    "core dumps",
    "shell set-up",
]


@pytest.mark.slow
def test_every_check_is_made_and_says_something(folder: Path) -> None:
    found = machine_checks({"SECRET_AGENT_HOME": str(folder), "HOME": str(folder)})
    assert [check.name for check in found] == NAMES
    assert all(check.detail for check in found)
    assert {check.state for check in found} <= {"ok", "warn", "fail"}


def test_a_check_that_cannot_be_made_is_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_environ: Mapping[str, str]) -> Check:
        raise OSError("canary-value")

    for name in NAMES:
        monkeypatch.setattr(checks, name.replace(" ", "_").replace("-", "_"), broken)
    found = machine_checks({"SECRET_AGENT_HOME": str(folder)})
    assert [check.state for check in found] == ["warn"] * len(NAMES)
    assert not any("canary" in check.detail for check in found)


def test_a_folder_that_is_open_to_others_fails_with_its_mend(folder: Path) -> None:
    environ = {"SECRET_AGENT_HOME": str(folder)}
    assert checks.folders(environ).state == "ok"
    folder.chmod(0o755)
    (found,) = (c for c in machine_checks_of_folders(environ) if c.name == "folders")
    assert (found.state, found.mend) == ("fail", f"chmod 0700 {folder}")


def machine_checks_of_folders(environ: Mapping[str, str]) -> list[Check]:
    return [checks._tried("folders", checks.folders, environ)]


def test_a_socket_path_that_is_too_long_fails() -> None:
    (found,) = machine_checks_of_folders({"SECRET_AGENT_HOME": "/" + "x" * 120})
    assert found.state == "fail"


class Bus:
    """A bus that answers the greeting with what it is given."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._answer = answer
        self.heard = b""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        talk, _ = self._listener.accept()
        with talk:
            self.heard = talk.recv(100)
            talk.sendall(self._answer)

    def end(self) -> None:
        self._thread.join(20)
        self._listener.close()


@pytest.mark.parametrize(("answer", "state"), [(b"OK 1234\r\n", "ok"), (b"REJECTED\r\n", "warn")])
def test_a_bus_is_greeted_and_its_answer_told(folder: Path, answer: bytes, state: str) -> None:
    bus = Bus(folder / "bus", answer)
    address = f"unix:guid=1,path={folder / 'bus'};tcp:host=x"
    assert checks.session_bus({"DBUS_SESSION_BUS_ADDRESS": address}).state == state
    bus.end()
    assert bus.heard == b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n"


@pytest.mark.parametrize("address", ["", "tcp:host=localhost", "unix:path=/no/such/bus"])
def test_a_bus_that_is_not_there_is_a_warning(address: str) -> None:
    assert checks.session_bus({"DBUS_SESSION_BUS_ADDRESS": address}).state == "warn"


def test_a_bus_that_says_nothing_is_a_warning_in_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "BUS_S", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(folder / "bus"))
        silent.listen()
        found = checks.session_bus({"DBUS_SESSION_BUS_ADDRESS": f"unix:path={folder / 'bus'}"})
    assert (found.state, found.detail) == ("warn", "it does not answer: too late")


def test_lock_detection_is_honest() -> None:
    found = checks.lock_detection({})
    assert found.state == "warn"
    assert found.mend == "secret-agent start --idle 15m"


@pytest.mark.parametrize(
    ("shell", "file"),
    [("bash", ".bashrc"), ("zsh", ".zshrc"), ("fish", ".config/fish/config.fish")],
)
def test_the_start_up_file_is_looked_into(shell: str, file: str, tmp_path: Path) -> None:
    environ = {"SHELL": f"/usr/bin/{shell}", "HOME": str(tmp_path)}
    missing = checks.shell_set_up(environ)
    assert missing.state == "warn"
    assert missing.mend is not None
    assert f"shell-init {shell}" in missing.mend
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text('eval "$(secret-agent shell-init x)"\n')
    assert checks.shell_set_up(environ).state == "ok"


def test_an_unknown_shell_is_a_warning() -> None:
    assert checks.shell_set_up({"SHELL": "/bin/tcsh"}).state == "warn"


@pytest.mark.slow
def test_a_keyring_that_hangs_is_a_warning_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "KEYRING_S", 0.3)
    monkeypatch.setattr(
        checks, "_ASK_KEYRING", "import sys; sys.stdin.read(); import signal; signal.pause()"
    )
    assert checks.keyring({}).state == "warn"


@pytest.mark.parametrize(
    ("program", "state", "words"),
    [
        ("print('keyring.backends.x 5'); print('answers')", "ok", "every program of this session"),
        ("print('keyring.backends.fail 0'); print('answers')", "warn", "no keyring answers"),
        ("raise SystemExit(1)", "warn", "no keyring answers"),
        ("raise ModuleNotFoundError(\"No module named 'keyring'\")", "warn", "not installed"),
    ],
)
def test_what_the_keyring_says_is_told(
    program: str, state: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_ASK_KEYRING", program)
    found = checks.keyring({})
    assert found.state == state
    assert words in found.detail
