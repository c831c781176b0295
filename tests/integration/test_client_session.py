"""The session's verbs and the library against the real agent."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from secret_agent_client import LockedError, NoAgentError, NotFoundError, aio, connect
from support.agent import PASSPHRASE, Agent, Home
from support.terminal import Terminal

pytestmark = pytest.mark.slow
WAIT_S = 20.0  # seconds that an event may take on a loaded machine


def status(home: Home) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(home.cli("status", "--json", check=True).stdout)
    return found


def test_status_has_the_keys_of_the_contract_also_while_locked(agent: Agent) -> None:
    known = status(agent)
    assert set(known) >= {
        "version", "protocol", "pid", "socket", "state", "unlocked_at", "locks_at",
        "idle_locks_at", "uptime_s", "store", "providers", "leases", "shells", "scopes", "audit",
        "policy",
    }  # fmt: skip
    assert (known["state"], known["store"]["secrets"]) == ("new", None)
    assert (known["pid"], known["socket"]) == (agent.pid, str(agent.socket))
    assert b"no store yet" in agent.cli("status", check=True).stdout


def test_without_an_agent_the_exit_status_is_6(home: Home) -> None:
    done = home.cli("status", "--json")
    assert done.returncode == 6
    assert json.loads(done.stdout)["error"] == {
        "code": "no-agent",
        "message": "no agent is running",
        "try": "eval $(secret-agent start)",
    }


def test_a_descriptor_makes_the_store_opens_it_and_is_refused_when_wrong(agent: Agent) -> None:
    made = agent.cli_with_passphrase("unlock")
    assert (made.returncode, made.stdout) == (0, b"")
    assert b"a new store is made" in made.stderr
    assert status(agent)["state"] == "unlocked"
    assert agent.cli("lock").returncode == 0
    assert status(agent)["state"] == "locked"
    wrong = agent.cli_with_passphrase("unlock", passphrase=b"not the passphrase")
    assert wrong.returncode == 4
    assert agent.cli_with_passphrase("unlock", "--lifetime", "1h").returncode == 0
    assert status(agent)["locks_at"] is not None


def test_a_weak_passphrase_is_taken_and_called_weak(agent: Agent) -> None:
    done = agent.cli_with_passphrase("unlock", passphrase=b"password")
    assert done.returncode == 0
    assert b"weak" in done.stderr


def test_where_nobody_can_be_asked_unlock_fails_at_once_with_the_mend(agent: Agent) -> None:
    for words in (("unlock",), ("unlock", "--no-input")):
        done = agent.cli(*words, env={"CI": "true"})
        assert done.returncode == 3
        assert b"try: secret-agent unlock --passphrase-fd 3" in done.stderr


def test_the_passphrase_is_changed_and_the_old_one_is_no_more(unlocked: Agent) -> None:
    new = b"another five words are here"
    unlocked.planted.append(new)
    descriptors = []
    for value in (PASSPHRASE, new):
        reader, writer = os.pipe()
        os.write(writer, value)
        os.close(writer)
        descriptors.append(reader)
    old_fd, new_fd = map(str, descriptors)
    words = ("passwd", "--passphrase-fd", old_fd, "--new-passphrase-fd", new_fd)
    done = unlocked.cli(*words, pass_fds=descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    assert done.returncode == 0, done.stderr
    unlocked.cli("lock", check=True)
    assert unlocked.cli_with_passphrase("unlock").returncode == 4
    assert unlocked.cli_with_passphrase("unlock", passphrase=new).returncode == 0


def test_passwd_on_a_locked_session_says_so(agent: Agent) -> None:
    assert agent.cli("passwd", "--no-input").returncode == 3


def test_get_on_a_locked_session_asks_at_the_terminal_and_goes_on(unlocked: Agent) -> None:
    value = unlocked.put("app/db")
    unlocked.cli("lock", check=True)
    argv = [sys.executable, "-m", "secret_agent_client", "get", "app/db"]
    with Terminal(argv, env=unlocked.environment(), cwd=unlocked.path) as terminal:
        terminal.expect("Passphrase: ")
        terminal.send("not this one\n")
        told = terminal.expect("that is not the passphrase")
        terminal.expect("Passphrase: ", start=told.end())
        terminal.send(PASSPHRASE.decode() + "\n")
        terminal.expect(value.decode())
        assert terminal.wait() == 0
        assert PASSPHRASE not in terminal.seen
    assert status(unlocked)["state"] == "unlocked"


def test_who_waits_for_somebody_elses_prompt_is_not_asked_and_goes_on(unlocked: Agent) -> None:
    """FIELD 2: thirty programs make one prompt.  Here the test has it, and answers it."""
    value = unlocked.put("app/db")
    unlocked.cli("lock", check=True)
    argv = [sys.executable, "-m", "secret_agent_client", "get", "app/db"]
    with unlocked.connect() as asker:
        asker.hello()
        assert asker.call("prompt-claim")["prompt"] is True
        with Terminal(argv, env=unlocked.environment(), cwd=unlocked.path) as terminal:
            asker.call("unlock", {"passphrase": PASSPHRASE})
            terminal.expect(value.decode())
            assert terminal.wait() == 0
            assert b"Passphrase" not in terminal.seen


def test_a_shells_hook_registers_and_unregisters_in_silence(agent: Agent) -> None:
    me = str(os.getpid())
    for verb, shells in (("register", 1), ("register", 1), ("unregister", 0)):
        done = agent.cli(verb, "--pid", me)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert status(agent)["shells"] == shells


def test_a_hook_without_an_agent_starts_none(home: Home) -> None:
    assert home.cli("register", "--pid", str(os.getpid())).returncode == 6
    assert home.pid_at_socket() is None


def test_doctor_tells_of_the_agent_and_fails_where_a_folder_is_open(agent: Agent) -> None:
    done = agent.cli("doctor", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (0, True), found
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert states["agent"] == "ok"
    assert "agent's peer identity" in states
    agent.path.chmod(0o755)
    open_one = agent.cli("doctor")
    agent.path.chmod(0o700)
    assert open_one.returncode == 1
    assert f"try: chmod 0700 {agent.path}".encode() in open_one.stdout


# -- the library ----------------------------------------------------------------------------------


@pytest.fixture
def here(unlocked: Agent, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """An unlocked agent that this very process finds."""
    monkeypatch.setenv("SECRET_AGENT_HOME", str(unlocked.path))
    monkeypatch.delenv("SECRET_AGENT_SOCK", raising=False)
    return unlocked


def test_a_program_gets_leases_and_gives_back(here: Agent) -> None:
    value = here.put("app/db")
    with connect() as client, connect() as watcher:
        with client.lease("app/db", ttl_s=60, reason="a test") as lease:
            assert lease.value.reveal() == value
            assert len(watcher.connection.call("leases")["leases"]) == 1
            client.renew(lease, ttl_s=120)
        assert watcher.connection.call("leases")["leases"] == []
        with pytest.raises(NotFoundError):
            client.get("app/none")


def test_a_block_does_not_end_the_lease_of_another_block(here: Agent) -> None:
    """The agent lends a process one lease of a secret, however often it asks."""
    here.put("app/db")
    with connect() as one, connect() as two:

        def alive() -> int:
            return len(one.connection.call("leases")["leases"])

        with one.lease("app/db") as outer:
            with two.lease("app/db") as inner:
                assert outer.id == inner.id
            assert alive() == 1
        assert alive() == 0
        with one.lease("app/db"):
            two.get("app/db")
        assert alive() == 1, "the program still has what get() gave it"


def test_a_lock_is_an_event_and_ends_the_lease(here: Agent) -> None:
    here.put("app/db")
    with connect() as client, client.lease("app/db") as lease:
        client.connection.call("events")  # subscribed before the lock, not with the first `next`
        here.cli("lock", check=True)
        names = {}
        for event in client.events(timeout_s=WAIT_S):
            names[event["event"]] = event["body"]
            if len(names) == 2:
                break
        assert names["lease-ended"]["lease"] == lease.id
        assert "session-locked" in names
        with pytest.raises(LockedError):
            client.get("app/db")


async def test_a_trio_program_hears_of_the_end_of_the_agent(here: Agent) -> None:
    here.put("app/db")
    heard: list[str] = []
    async with aio.connect() as client, trio.open_nursery() as nursery:

        async def hear() -> None:
            async for event in client.events():
                heard.append(event["event"])  # noqa: PERF401  # until the agent goes away

        async def listen() -> None:
            with pytest.raises(NoAgentError):
                await hear()

        nursery.start_soon(listen)
        assert (await client.get("app/db")).reveal() in here.planted
        await trio.to_thread.run_sync(lambda: here.cli("stop", check=True))
    assert "agent-stopping" in heard


PROGRAM = """
import os
from secret_agent_client import connect
with connect() as client:
    client.get("app/db")
    print("has it", flush=True)
    os.read(0, 1)
"""


def test_a_process_that_dies_has_no_lease_any_more(here: Agent) -> None:
    here.put("app/db")
    with (
        connect() as watcher,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=here.environment(),
        ) as program,
    ):
        assert program.stdout is not None
        assert program.stdout.readline() == b"has it\n"
        watcher.connection.call("events", {"audit": True})
        (held,) = watcher.connection.call("leases")["leases"]
        program.kill()
        while event := watcher.connection.next_event(WAIT_S):
            if event["event"] == "audit" and event["body"].get("lease") == held["id"]:
                break
        assert event is not None, "the end of the lease was not recorded"
        assert watcher.connection.call("leases")["leases"] == []


def test_the_socket_of_another_place_may_be_named(here: Agent, tmp_path: Path) -> None:
    value = here.put("app/db")
    with connect(str(here.socket)) as client:
        assert client.get("app/db").reveal() == value
    with pytest.raises(NoAgentError):
        connect(str(tmp_path / "none"))
