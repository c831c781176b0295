"""`secret-agent run` with a real agent: what it asks for, what it holds, what it leaves."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.agent import Agent
from support.terminal import DEADLINE_S, Terminal
from unit.run.driving import read_until

CLIENT = [sys.executable, "-m", "secret_agent_client"]


@contextmanager
def running(
    agent: Agent, *args: str, env: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """`secret-agent run ARGS`, which the test talks to; it is over when the block is."""
    process = subprocess.Popen(
        [*CLIENT, "run", *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=agent.environment(**(env or {})),
        cwd=agent.path,
        start_new_session=True,
    )
    with process:
        yield process
        process.kill()


def shell(
    agent: Agent, script: str, *args: str, **more: Any
) -> "subprocess.CompletedProcess[bytes]":
    return agent.cli("run", *args, "--", "sh", "-c", script, **more)


def leases(agent: Agent) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = agent.call("leases")["leases"]
    return found


def records(agent: Agent) -> list[dict[str, Any]]:
    done = agent.cli("audit", "show", "--json", check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


class TestWhatTheChildGets:
    def test_the_value_is_in_its_environment_and_masked_in_its_output(self, shared: Agent) -> None:
        value = shared.put("run/token")
        done = shell(shared, 'echo "<$T>"; printf %s "$T" | sha256sum', "--env", "T=run/token")
        from hashlib import sha256

        assert done.stdout.decode() == f"<*****>\n{sha256(value).hexdigest()}  -\n"
        assert (done.returncode, done.stderr) == (0, b"")

    def test_a_reference_in_the_environment_is_resolved(self, shared: Agent) -> None:
        shared.put("run/token")
        reference = {"T": "secret://run/token"}
        assert shell(shared, "echo $T; echo ${#T}", env=reference).stdout == b"*****\n24\n"

    def test_an_env_file_gives_references_and_plain_values(
        self, shared: Agent, tmp_path: Path
    ) -> None:
        shared.put("run/token")
        file = tmp_path / ".env"
        file.write_text("# mine\nexport T=secret://run/token\nPLAIN='as it is'\n")
        done = shell(shared, "echo $T $PLAIN", "--env-file", str(file))
        assert done.stdout == b"***** as it is\n"

    def test_a_trusted_manifest_gives_names_and_takes_the_others_away(
        self, shared: Agent, tmp_path: Path
    ) -> None:
        shared.put("run/token")
        manifest = tmp_path / "secrets.toml"
        manifest.write_text(
            'version = 1\n[env]\nT = "secret://run/token"\n'
            '[stage.prod.env]\nPROD = "secret://run/prod"\n'
        )
        refused = shell(shared, "echo no", cwd=tmp_path)
        assert refused.returncode == 125
        assert b"secret-agent trust" in refused.stderr
        shared.cli("trust", "--yes", str(manifest), check=True)
        done = shell(shared, "echo $T ${PROD-gone}", cwd=tmp_path, env={"PROD": "old"})
        assert done.stdout == b"***** gone\n"
        aside = shell(shared, "echo ${T-unset}", "--no-manifest", cwd=tmp_path)
        assert aside.stdout == b"unset\n"

    def test_the_stage_is_preferred_and_not_needed(self, shared: Agent) -> None:
        shared.cli("set", "run/staged", "--stdin", input=b"everywhere-x", check=True)
        shared.cli(
            "set", "run/staged", "--stage", "test", "--stdin", input=b"in-test-only", check=True
        )
        shared.cli("set", "run/plain", "--stdin", input=b"has-no-stage", check=True)
        script = "[ $S = in-test-only ] && [ $P = has-no-stage ] && echo right"
        done = shell(
            shared, script, "--stage", "test", "--env", "S=run/staged", "--env", "P=run/plain"
        )
        assert done.stdout == b"right\n", done.stderr

    def test_two_names_for_one_reference_are_one_lease(self, shared: Agent) -> None:
        shared.put("run/token")
        args = ("--env", "A=run/token", "--env", "B=secret://run/token", "--", "sh", "-c")
        with running(shared, *args, "echo $A $B; read x") as process:
            assert read_until(process.stdout, b"\n") == b"***** *****\n"
            mine = [each for each in leases(shared) if each["bound_pid"] == process.pid]
            assert len(mine) == 1

    def test_fifty_secrets_come_together(self, shared: Agent) -> None:
        fields = {f"f{n}": f"value-number-{n:03}".encode() for n in range(50)}
        shared.call("set", {"name": "run/many", "fields": fields})
        names = [f"--env=V{n}=run/many#f{n}" for n in range(50)]
        done = shell(shared, "env | grep -c '^V[0-9]*=value-number-'", *names)
        assert done.stdout == b"50\n", done.stderr

    def test_the_agents_own_socket_stays_known_to_the_child(self, shared: Agent) -> None:
        shared.put("run/token")
        inner = f"{sys.executable} -m secret_agent_client status --json | grep -o unlocked"
        assert b"unlocked" in shell(shared, inner, "--env", "T=run/token").stdout


class TestFiles:
    @pytest.fixture
    def in_memory(self) -> Iterator[Agent]:
        """An agent whose runtime folder is on tmpfs."""
        base = Path("/dev/shm")
        if not os.access(base, os.W_OK):
            pytest.skip("no /dev/shm to write to")
        with Agent(base=base) as agent:
            agent.unlock()
            yield agent

    def test_on_tmpfs_it_is_a_file_of_ours_in_the_agents_folder(self, in_memory: Agent) -> None:
        in_memory.put("run/key")
        script = "echo $K; cat $K; echo; stat -c %a $K $(dirname $K)"
        done = shell(in_memory, script, "--file", "K=run/key")
        path, value, *modes = done.stdout.decode().splitlines()
        assert path.startswith(f"{in_memory.path}/run/")
        assert path.endswith("/K")
        assert (value, modes) == ("*****", ["600", "700"])
        assert not Path(path).exists()

    @pytest.mark.parametrize("end", ["kill", "lock", "stop"])
    def test_it_is_gone_whatever_becomes_of_us(self, in_memory: Agent, end: str) -> None:
        """FIELD 21: the agent cleans up, not the wrapper."""
        in_memory.put("run/key")
        args = ("--file", "K=run/key", "--on-revoke", "ignore", "--", "sh", "-c")
        with running(in_memory, *args, "echo $K; read x") as process:
            path = Path(read_until(process.stdout, b"\n").decode().strip())
            assert path.exists()
            if end == "kill":
                process.kill()
            elif end == "lock":
                in_memory.cli("lock", check=True)
            else:
                in_memory.stop()
            _wait_until_gone(path.parent)

    def test_elsewhere_it_is_sealed_memory(self, shared: Agent) -> None:
        """The runtime folder of this agent lies on a disk."""
        shared.put("run/key")
        done = shell(shared, "readlink $K; cat $K; cat $K", "--file", "K=run/key")
        link, values = done.stdout.split(b"\n")
        if link.startswith(b"/memfd:"):  # a machine whose /tmp is tmpfs has a folder instead
            assert values == b"**********"

    def test_a_binary_value_arrives_whole(self, shared: Agent) -> None:
        value = bytes(range(256)) * 700
        shared.cli("set", "run/binary", "--stdin", input=value, check=True)
        done = shell(shared, "sha256sum <$K", "--file", "K=run/binary")
        from hashlib import sha256

        assert done.stdout.split()[0].decode() == sha256(value).hexdigest()
        refused = shell(shared, "echo no", "--env", "K=run/binary")
        assert refused.returncode == 125
        assert b"--file" in refused.stderr


class TestFailure:
    def test_one_that_is_missing_stops_all_and_names_itself(self, shared: Agent) -> None:
        shared.put("run/token")
        done = shell(shared, "echo no", "--env", "T=run/token", "--env", "U=run/nothing")
        assert (done.returncode, done.stdout) == (125, b"")
        assert b"U (secret://run/nothing): " in done.stderr
        assert b"try: " in done.stderr
        assert [each for each in leases(shared) if each["secret"] == "run/token"] == []

    def test_without_an_agent_it_says_what_to_type(self, shared: Agent) -> None:
        nowhere = {"SECRET_AGENT_SOCK": str(shared.path / "none")}
        done = shell(shared, "echo no", "--env", "T=run/token", env=nowhere)
        assert (done.returncode, done.stdout) == (125, b"")
        assert b"\n  try: " in done.stderr

    @pytest.mark.parametrize(
        ("args", "status"),
        [
            (("--env", "T=NOT A NAME", "--", "true"), 2),
            (("--env", "T", "--", "true"), 2),
            (("--env", "PATH=run/token", "--", "true"), 2),
            (("--env", "T=run/token", "--file", "T=run/token", "--", "true"), 2),
            (("--ttl", "soon", "--", "true"), 2),
            (("--on-revoke", "panic", "--", "true"), 2),
            (("true",), 2),
            ((), 2),
            (("--",), 2),
            (("--env", "T=run/token", "--", "no-such-command-here"), 127),
            (("--env", "T=run/token", "--", "/etc"), 126),
            (("--env-file", "/no/such/file", "--", "true"), 2),
        ],
    )
    def test_a_bad_invocation_says_so_and_asks_for_nothing(
        self, shared: Agent, args: tuple[str, ...], status: int
    ) -> None:
        before = len(records(shared))
        done = shared.cli("run", *args)
        assert done.returncode == status, done.stderr
        assert done.stderr.startswith(b"secret-agent: ")
        assert len(records(shared)) == before

    def test_where_nothing_is_asked_for_that_is_said_and_the_command_runs(
        self, shared: Agent
    ) -> None:
        done = shell(shared, "exit 4")
        assert done.returncode == 4
        assert b"no secret was asked for" in done.stderr

    def test_a_terminal_multiplexer_is_warned_of(self, shared: Agent, tmp_path: Path) -> None:
        """T43: its server would keep the values for everything started in it later."""
        fake = tmp_path / "tmux"
        fake.write_text("#!/bin/sh\n")
        fake.chmod(0o755)
        shared.put("run/token")
        done = shared.cli("run", "--env", "T=run/token", "--", str(fake))
        assert done.returncode == 0
        assert b"keeps its environment" in done.stderr


class TestLeases:
    def test_they_are_bound_to_us_and_end_with_the_command(self, shared: Agent) -> None:
        shared.put("run/bound")
        args = ("--env", "T=run/bound", "--reason", "because", "--", "sh", "-c")
        with running(shared, *args, "echo ready; read x") as process:
            read_until(process.stdout, b"ready\n")
            (lease,) = [each for each in leases(shared) if each["secret"] == "run/bound"]
            assert (lease["binding"], lease["channel"]) == ("process", "env")
            assert lease["bound_pid"] == process.pid
            process.communicate(b"\n", timeout=DEADLINE_S)
        assert [each for each in leases(shared) if each["secret"] == "run/bound"] == []

    def test_when_we_are_killed_lease_and_child_end(self, shared: Agent) -> None:
        shared.put("run/killed")
        args = ("--env", "T=run/killed", "--", "sh", "-c")
        with shared.connect() as listener:
            listener.hello()
            listener.call("events", {"audit": True})
            with running(shared, *args, "echo $$; exec sleep 300") as process:
                child = os.pidfd_open(int(read_until(process.stdout, b"\n")))
                process.kill()
                assert select.select([child], [], [], DEADLINE_S)[0]
                os.close(child)
            while (body := listener.next_event()["body"]).get("action") != "end":
                assert body is not None
            assert body["secret"] == "run/killed"
        assert [each for each in leases(shared) if each["secret"] == "run/killed"] == []

    def test_a_short_lease_is_renewed_as_long_as_the_command_lives(self, shared: Agent) -> None:
        shared.put("run/short")
        args = ("--ttl", "1s", "--env", "T=run/short", "--", "sh", "-c")
        with running(shared, *args, "echo ready; sleep 2; echo done") as process:
            out, err = process.communicate(timeout=DEADLINE_S)
            assert (process.returncode, out, err) == (0, b"ready\ndone\n", b"")

    @pytest.mark.parametrize("how", ["revoke", "lock", "stop", "kill"])
    def test_its_end_ends_the_command(self, unlocked: Agent, how: str) -> None:
        unlocked.put("run/token")
        args = ("--env", "T=run/token", "--", "sh", "-c")
        with running(unlocked, *args, "echo ready; exec sleep 300") as process:
            read_until(process.stdout, b"ready\n")
            if how == "revoke":
                unlocked.cli("revoke", "--secret", "run/*", check=True)
            elif how == "lock":
                unlocked.cli("lock", check=True)
            elif how == "stop":
                unlocked.stop()
            else:
                unlocked.kill()
            _, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 128 + signal.SIGTERM
        assert err.count(b"\n") == 1
        expected = {
            "revoke": b"the lease of run/token is over (revoked)",
            "lock": b"the lease of run/token is over (locked)",
            "stop": b"",
            "kill": b"because the agent is gone",
        }
        assert expected[how] in err

    def test_ignore_lets_it_go_on(self, unlocked: Agent) -> None:
        unlocked.put("run/token")
        args = ("--env", "T=run/token", "--on-revoke", "ignore", "--", "sh", "-c")
        with running(unlocked, *args, "echo ready; read x; echo on") as process:
            read_until(process.stdout, b"ready\n")
            unlocked.cli("lock", check=True)
            assert b"(locked)" in read_until(process.stderr, b"\n")
            out, _ = process.communicate(b"\n", timeout=DEADLINE_S)
        assert (process.returncode, out) == (0, b"on\n")


class TestScope:
    def test_a_scoped_socket_serves_it_and_files_are_in_memory(
        self, shared: Agent, tmp_path: Path
    ) -> None:
        shared.put("run/token")
        shared.put("other/token")
        path = shared.path / "scope.sock"
        shared.cli("delegate", "--allow", "run/*", "--socket", str(path), check=True)
        scoped = {"SECRET_AGENT_SOCK": str(path)}
        done = shell(
            shared, "echo $T; readlink $K | cut -c1-7; cat $K",
            "--env", "T=run/token", "--file", "K=run/token", env=scoped,
        )  # fmt: skip
        assert done.stdout == b"*****\n/memfd:\n*****", done.stderr
        refused = shell(shared, "echo no", "--env", "T=other/token", env=scoped)
        assert (refused.returncode, refused.stdout) == (125, b"")


class TestLocked:
    def test_without_a_person_it_fails_at_once(self, agent: Agent) -> None:
        agent.unlock()
        agent.put("run/token")
        agent.cli("lock", check=True)
        done = shell(agent, "echo no", "--env", "T=run/token", "--no-input")
        assert (done.returncode, done.stdout) == (125, b"")
        assert b"secret-agent unlock" in done.stderr

    def test_at_a_terminal_the_passphrase_is_asked_for_and_the_command_runs(
        self, agent: Agent
    ) -> None:
        from support.agent import PASSPHRASE

        agent.unlock()
        agent.put("run/token")
        agent.cli("lock", check=True)
        line = [
            *CLIENT,
            "run",
            "--env",
            "T=run/token",
            "--",
            "sh",
            "-c",
            "tty; echo ${#T}; echo $T",
        ]
        with Terminal(line, env=agent.environment(), cwd=agent.path) as terminal:
            terminal.expect("Passphrase: ")
            terminal.send(PASSPHRASE.decode() + "\r")
            assert terminal.wait() == 0
        assert b"24\r\n*****\r\n" in terminal.seen
        assert PASSPHRASE not in terminal.seen


def _wait_until_gone(path: Path) -> None:
    for _ in range(2000):
        if not path.exists():
            return
        select.select([], [], [], 0.01)
    raise AssertionError(f"{path} is still there")
