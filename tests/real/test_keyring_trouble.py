"""Keyrings that are missing, insecure or silent: each is named soon, and holds up nobody else."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import PASSPHRASE, SOURCES, Agent
from support.session_bus import SessionBus, session_bus

pytestmark = pytest.mark.real

SOON_S = 10.0  # a client waits a minute; this is a loaded machine's "at once"


@pytest.fixture(scope="module")
def bus() -> Iterator[SessionBus]:
    """A bus without a keyring."""
    with session_bus() as running:
        yield running


def refusal(agent: Agent) -> dict[str, str]:
    """How `unlock --keyring` is refused, and soon."""
    begin = time.monotonic()
    with agent.connect() as peer:
        peer.hello()
        error: dict[str, str] = peer.refused("unlock", {"keyring": True, "create": True})
        assert time.monotonic() - begin < SOON_S
        assert peer.call("unlock", {"passphrase": PASSPHRASE, "create": True})["created"]
    return error


def test_without_a_session_bus_the_error_says_so() -> None:
    with Agent() as agent:
        error = refusal(agent)
    assert error["code"] == "unavailable"
    assert "the Secret Service and KWallet looked for" in error["message"]
    assert "started without a session bus" in error["message"]
    assert error["try"] == "secret-agent unlock"


def test_a_bus_that_is_gone_or_has_no_keyring_is_an_error_of_its_own(bus: SessionBus) -> None:
    for address in (bus.address, "unix:path=/nonexistent/bus"):
        with Agent(env={"DBUS_SESSION_BUS_ADDRESS": address}) as agent:
            error = refusal(agent)
        assert error["code"] == "unavailable"
        assert "the Secret Service and KWallet looked for" in error["message"]
        assert "without a session bus" not in error["message"]


def test_without_the_package_the_error_says_how_to_get_it(tmp_path: Path, bus: SessionBus) -> None:
    """The package is hidden by one of its name that fails as a missing one does."""
    (tmp_path / "keyring.py").write_text("raise ModuleNotFoundError('keyring', name='keyring')\n")
    hidden = {"PYTHONPATH": f"{tmp_path}:{SOURCES}", "DBUS_SESSION_BUS_ADDRESS": bus.address}
    with Agent(env=hidden) as agent:
        error = refusal(agent)
    assert error["message"] == "the keyring package is not installed"
    assert error["try"] == "pip install 'secret-agent-daemon[keyring]'"


def test_a_configured_keyring_that_is_a_file_is_neither_loaded_nor_used(tmp_path: Path) -> None:
    """keyring's own configuration may name any class of any module, to be imported from anywhere:
    none of that is read.
    """
    with Agent(env={"PYTHON_KEYRING_BACKEND": "plain.Keyring"}) as agent:
        loaded = agent.path / "loaded"
        (agent.path / "plain.py").write_text(
            f"from pathlib import Path\nPath({str(loaded)!r}).touch()\n"
            "from keyring.backend import KeyringBackend\n"
            "class Keyring(KeyringBackend):\n"
            "    priority = 99\n"
            "    def get_password(self, service, username): return None\n"
            "    def set_password(self, service, username, password): pass\n"
        )
        for folder in (".config/python_keyring", ".local/share/python_keyring"):
            (agent.path / folder).mkdir(parents=True)
            (agent.path / folder / "keyringrc.cfg").write_text(
                f"[backend]\ndefault-keyring=plain.Keyring\nkeyring-path={agent.path}\n"
            )
        error = refusal(agent)
        assert "one that is a file is never used" in error["message"]
        assert not loaded.exists()


def test_a_silent_keyring_holds_up_nobody_and_ends_with_its_service() -> None:
    with session_bus() as bus, Agent(env={"DBUS_SESSION_BUS_ADDRESS": bus.address}) as agent:
        with bus.silence() as service, agent.connect() as waiting:
            waiting.hello()
            request = waiting.send("unlock", {"keyring": True, "create": True})
            assert service.stdout is not None
            while service.stdout.readline() != b"method_call\n":
                pass  # until the agent's question stands unanswered
            begin = time.monotonic()
            assert agent.call("status")["state"] == "new"
            assert agent.unlock()["created"]
            value = agent.put("one/a")
            assert agent.cli("get", "one/a").stdout == value
            agent.call("lock")
            agent.unlock()
            assert time.monotonic() - begin < SOON_S
            service.terminate()
            error = waiting.reply(request)["error"]
        assert error["code"] == "unavailable"
        assert "the OS keyring failed" in error["message"]


def test_an_agent_whose_keyring_is_silent_can_be_stopped(bus: SessionBus) -> None:
    with (
        Agent(env={"DBUS_SESSION_BUS_ADDRESS": bus.address}) as agent,
        bus.silence() as service,
        agent.connect() as waiting,
    ):
        waiting.hello()
        waiting.send("unlock", {"keyring": True, "create": True})
        assert service.stdout is not None
        while service.stdout.readline() != b"method_call\n":
            pass
        begin = time.monotonic()
        assert agent.stop() == 0
        assert time.monotonic() - begin < SOON_S
