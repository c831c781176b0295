"""`start` and `stop` against the real agent: one agent, no race, no leftovers, no lies."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.agent import READY_S, Agent, Home, end_process

pytestmark = pytest.mark.slow


def variables(output: bytes) -> dict[str, str]:
    """What the lines of `start` assign."""
    words = [part.strip().partition("=") for part in output.decode().split(";")]
    return {name: value for name, equals, value in words if equals}


def start(home: Home, *words: str) -> dict[str, str]:
    return variables(home.cli("start", "--shell", "posix", *words, check=True).stdout)


def test_it_starts_one_agent_and_finds_it_again(home: Home) -> None:
    first = start(home)
    assert first == {
        "SECRET_AGENT_SOCK": str(home.socket),
        "SECRET_AGENT_PID": str(home.pid_at_socket()),
    }
    again = home.cli("start", "--shell", "posix", check=True)
    assert variables(again.stdout) == first
    assert again.stderr == b"", "a second start has nothing to say"


def test_starts_at_the_same_moment_give_one_agent(home: Home) -> None:
    command = [sys.executable, "-m", "secret_agent_client", "start", "--shell", "posix"]
    racers = [
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=home.environment(),
        )
        for _ in range(6)
    ]
    said = [racer.communicate(timeout=READY_S * 3) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 6, said
    assert len({variables(stdout)["SECRET_AGENT_PID"] for stdout, _ in said}) == 1


def test_it_ignores_a_dead_socket_that_an_old_shell_remembers(home: Home, tmp_path: Path) -> None:
    old = {"SECRET_AGENT_SOCK": str(tmp_path / "old.sock")}
    done = home.cli("start", "--shell", "posix", env=old, check=True)
    assert variables(done.stdout)["SECRET_AGENT_SOCK"] == str(home.socket)


def test_stop_returns_once_the_process_has_ended(home: Home) -> None:
    pid = int(start(home)["SECRET_AGENT_PID"])
    pidfd = os.pidfd_open(pid)
    try:
        done = home.cli("stop", "--shell", "posix", check=True)
        assert select.select([pidfd], [], [], 0)[0], "stop returned before the agent had ended"
    finally:
        os.close(pidfd)
    assert done.stdout == b"unset SECRET_AGENT_SOCK; unset SECRET_AGENT_PID;\n"
    assert not home.socket.exists()


def test_stop_where_none_runs_is_no_error(home: Home) -> None:
    done = home.cli("stop", "--shell", "fish")
    assert done.returncode == 0
    assert done.stdout == b"set -e SECRET_AGENT_SOCK; set -e SECRET_AGENT_PID;\n"


def test_stop_does_not_pass_over_a_living_agent_elsewhere(home: Home, tmp_path: Path) -> None:
    """fnox#550: `stop` said stopped while an agent on another socket kept the secrets."""
    start(home)
    done = home.cli("stop", env={"SECRET_AGENT_SOCK": str(tmp_path / "dead.sock")})
    assert done.returncode == 0
    assert f"the agent at {home.socket}".encode() in done.stderr
    assert home.pid_at_socket() is not None


def test_stop_says_it_where_the_agent_is_frozen(agent: Agent) -> None:
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        done = agent.cli("stop")
    finally:
        os.kill(agent.pid, signal.SIGCONT)
    assert done.returncode == 7
    assert f"try: kill -CONT {agent.pid}".encode() in done.stderr


def test_a_private_agent_has_a_place_of_its_own_and_goes_with_its_owner(home: Home) -> None:
    mine = start(home, "--private", "--pid", str(os.getpid()))
    socket = Path(mine["SECRET_AGENT_SOCK"])
    assert socket.parent.parent == home.path
    assert socket != home.socket
    assert home.pid_at_socket() is None
    other = start(home, "--private", "--pid", str(os.getpid()))
    assert other["SECRET_AGENT_SOCK"] != mine["SECRET_AGENT_SOCK"]
    for each in (mine, other):
        assert home.cli("stop", env=each).returncode == 0
        assert not Path(each["SECRET_AGENT_SOCK"]).exists()


def runs(pid: int) -> bool:
    """Whether the process lives; one that nobody has waited for yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def test_an_agent_for_one_command_ends_with_it_and_hands_on_its_status(home: Home) -> None:
    script = 'echo "$SECRET_AGENT_SOCK $SECRET_AGENT_PID"; exit 7'
    done = home.cli("start", "--", "sh", "-c", script)
    assert done.returncode == 7, done.stderr
    socket, pid = done.stdout.decode().split()
    assert not Path(socket).parent.exists()
    assert not runs(int(pid))
    killed = home.cli("start", "--", "sh", "-c", "kill -TERM $$")
    assert killed.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("command", "status"), [("/no/such/command", 127), ("/etc/passwd", 126), (None, 2)]
)
def test_a_command_that_cannot_be_run_has_the_status_of_a_shell(
    home: Home, command: str | None, status: int
) -> None:
    done = home.cli("start", "--", *([] if command is None else [command]))
    assert done.returncode == status
    assert list(home.path.glob("private-" + "?" * 16)) == []


def test_an_agent_whose_one_command_was_killed_with_its_starter_ends_too(home: Home) -> None:
    argv = [sys.executable, "-m", "secret_agent_client", "start", "--"]
    argv += ["sh", "-c", 'echo "$SECRET_AGENT_PID"; read x']
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=home.environment()
    ) as starter:
        assert starter.stdout is not None
        pidfd = os.pidfd_open(int(starter.stdout.readline()))
        try:
            starter.kill()
            assert select.select([pidfd], [], [], READY_S)[0], "the agent lives on"
        finally:
            os.close(pidfd)


def test_in_the_foreground_it_is_the_agent(home: Home) -> None:
    argv = [sys.executable, "-m", "secret_agent_client", "start", "--foreground", "--idle", "1h"]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=home.environment()
    ) as process:
        pidfd = os.pidfd_open(process.pid)
        try:
            while home.pid_at_socket() is None:
                assert not select.select([pidfd], [], [], 0.02)[0], "it ended"
            assert home.pid_at_socket() == process.pid
        finally:
            os.close(pidfd)
            assert end_process(process.pid) == ""
        assert process.stdout is not None
        assert process.stdout.read() == b""


@pytest.mark.parametrize(
    "words",
    [
        ("--private", "--socket", "/x/y"),
        ("--private", "--foreground"),
        ("--lifetime", "soon"),
        ("--socket", "/" + "x" * 200),
    ],
)
def test_options_that_disagree_start_nothing(home: Home, words: tuple[str, ...]) -> None:
    assert home.cli("start", *words).returncode == 2
    assert home.pid_at_socket() is None
    assert sorted(path.name for path in home.path.iterdir()) == []


def test_a_place_that_no_shell_takes_unquoted_starts_nothing(home: Home, tmp_path: Path) -> None:
    folder = home.path / "with space"
    done = home.cli("start", "--socket", str(folder / "agent.sock"))
    assert done.returncode == 2
    assert not folder.exists()
    assert tmp_path.exists()


def test_a_place_of_its_own_may_be_given(home: Home) -> None:
    folder = home.path / "elsewhere"
    folder.mkdir(0o700)
    mine = start(home, "--socket", str(folder / "a.sock"))
    assert mine["SECRET_AGENT_SOCK"] == str(folder / "a.sock")
    assert home.cli("stop", env=mine).returncode == 0


def test_a_folder_that_is_open_to_others_is_refused_with_the_mend(home: Home) -> None:
    home.path.chmod(0o755)
    done = home.cli("start")
    home.path.chmod(0o700)
    assert done.returncode == 2
    assert b"chmod" in done.stderr
    assert home.pid_at_socket() is None
