"""A lease ends while the child runs: what --on-revoke says happens, once, and is said once."""

import os
import signal
from pathlib import Path

import pytest

from support.terminal import DEADLINE_S
from unit.run.driving import SECRET, AgentSide, Driver, read_until

TRAP = "trap 'echo told {n}; exit 7' {n}; echo ready; while :; do sleep 0.05; done"
ENDS = ["expired", "revoked", "locked", "scope-ended", "shell-gone", "stopped"]


class TestTerminate:
    @pytest.mark.parametrize("why", ENDS)
    def test_the_child_gets_sigterm_and_its_status_is_ours(
        self, driver: Driver, agent: AgentSide, why: str
    ) -> None:
        process = driver.start(driver.line("sh", "-c", TRAP.format(n=15), socket=agent.path))
        read_until(process.stdout, b"ready\n")
        agent.end_lease(why)
        out, err = process.communicate(timeout=DEADLINE_S)
        assert out == b"told 15\n"
        assert process.returncode == 7
        assert err.decode().startswith(  # dash tells of its sleep besides
            f"the lease of test/token is over ({why}): "
            "the command is told to end, and is killed after 10 s\n"
        )

    def test_one_that_does_not_care_ends_as_by_the_signal(
        self, driver: Driver, agent: AgentSide
    ) -> None:
        process = driver.start(
            driver.line("sh", "-c", "echo ready; exec sleep 300", socket=agent.path)
        )
        read_until(process.stdout, b"ready\n")
        agent.end_lease("revoked")
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 143

    def test_a_child_that_is_stopped_is_ended_too(self, driver: Driver, agent: AgentSide) -> None:
        process = driver.start(
            driver.line("sh", "-c", "echo $$; kill -STOP $$; sleep 300", socket=agent.path)
        )
        read_until(process.stdout, b"\n")
        os.waitpid(process.pid, os.WUNTRACED)
        agent.end_lease("revoked")
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 143

    @pytest.mark.slow
    def test_one_that_refuses_is_killed_after_the_grace(
        self, driver: Driver, agent: AgentSide
    ) -> None:
        script = "trap 'echo no' 15; echo ready; while :; do sleep 0.05; done"
        process = driver.start(driver.line("sh", "-c", script, socket=agent.path, grace_s=0.3))
        read_until(process.stdout, b"ready\n")
        agent.end_lease("revoked")
        out, _ = process.communicate(timeout=DEADLINE_S)
        assert out == b"no\n"
        assert process.returncode == 137

    def test_many_leases_that_end_are_one_sigterm_and_one_line(
        self, driver: Driver, agent: AgentSide
    ) -> None:
        script = "trap 'echo told' 15; echo ready; for n in 1 2 3 4 5 6; do sleep 0.05; done"
        line = driver.line(
            "sh", "-c", script, values={"A": "1" * 8, "B": "2" * 8}, socket=agent.path
        )
        process = driver.start(line)
        read_until(process.stdout, b"ready\n")
        agent.end_lease("locked", "l-1")
        agent.end_lease("locked", "l-2")
        out, err = process.communicate(timeout=DEADLINE_S)
        assert out == b"told\n"
        assert err.count(b"is over") == 1

    def test_an_agent_that_stops_says_so_itself(self, driver: Driver, agent: AgentSide) -> None:
        process = driver.start(driver.line("sh", "-c", TRAP.format(n=15), socket=agent.path))
        read_until(process.stdout, b"ready\n")
        agent.event("agent-stopping")
        _, err = process.communicate(timeout=DEADLINE_S)
        assert err.startswith(b"every lease is over, because the agent stops: ")
        assert process.returncode == 7

    def test_an_agent_that_is_gone_counts_as_a_revocation(
        self, driver: Driver, agent: AgentSide
    ) -> None:
        process = driver.start(driver.line("sh", "-c", TRAP.format(n=15), socket=agent.path))
        read_until(process.stdout, b"ready\n")
        agent.hang_up()
        _, err = process.communicate(timeout=DEADLINE_S)
        assert err.startswith(b"every lease is over, because the agent is gone: ")
        assert process.returncode == 7

    def test_the_end_of_somebody_elses_lease_means_nothing(
        self, driver: Driver, agent: AgentSide
    ) -> None:
        process = driver.start(driver.line("sh", "-c", "echo ready; read x", socket=agent.path))
        read_until(process.stdout, b"ready\n")
        agent.end_lease("revoked", "l-other")
        out, err = process.communicate(b"go on\n", timeout=DEADLINE_S)
        assert (process.returncode, out, err) == (0, b"", b"")


class TestOtherReactions:
    def test_hup_sends_sighup_and_the_child_goes_on(self, driver: Driver, agent: AgentSide) -> None:
        script = "trap 'echo told' 1; echo ready; read x; echo on $x"
        line = driver.line("bash", "-c", script, socket=agent.path, on_revoke="hup")
        process = driver.start(line)
        read_until(process.stdout, b"ready\n")
        agent.end_lease("revoked")
        assert b"SIGHUP" in read_until(process.stderr, b"\n")
        read_until(process.stdout, b"told\n")
        out, _ = process.communicate(b"x\n", timeout=DEADLINE_S)
        assert process.returncode in (0, 1)
        assert out == b"on x\n"

    def test_ignore_says_so_and_does_nothing(self, driver: Driver, agent: AgentSide) -> None:
        line = driver.line(
            "sh", "-c", "echo ready; read x; echo on $x", socket=agent.path, on_revoke="ignore"
        )
        process = driver.start(line)
        read_until(process.stdout, b"ready\n")
        agent.end_lease("revoked")
        assert b"goes on, as --on-revoke ignore says" in read_until(process.stderr, b"\n")
        out, err = process.communicate(b"x\n", timeout=DEADLINE_S)
        assert (process.returncode, out, err) == (0, b"on x\n", b"")


class TestRestart:
    def test_a_lease_that_expired_is_had_again_and_the_child_begun_anew(
        self, driver: Driver, agent: AgentSide
    ) -> None:
        script = "echo ${#TOKEN}; read -t 20 x; echo $TOKEN $x"
        process = driver.start(driver.line("bash", "-c", script, socket=agent.path, restart=True))
        assert read_until(process.stdout, b"\n") == b"15\n"
        agent.say({"values": {"TOKEN": "another-secret-value"}})
        agent.end_lease("expired")
        assert read_until(process.stdout, b"\n") == b"20\n"
        out, err = process.communicate(b"end\n", timeout=DEADLINE_S)
        assert out == b"***** end\n"
        assert process.returncode == 0
        assert err == (
            b"the lease of test/token is over (expired): "
            b"it could be had again, so the command is started anew\n"
        )

    def test_the_old_value_stays_masked_after_a_restart(
        self, driver: Driver, agent: AgentSide, tmp_path: Path
    ) -> None:
        old = tmp_path / "old"
        script = f"[ -e {old} ] || echo $TOKEN >{old}; cat {old}; read -t 20 x"
        process = driver.start(driver.line("bash", "-c", script, socket=agent.path, restart=True))
        assert read_until(process.stdout, b"\n") == b"*****\n"
        agent.say({"values": {"TOKEN": "another-secret-value"}})
        agent.end_lease("expired")
        assert read_until(process.stdout, b"\n") == b"*****\n"
        assert old.read_text() == SECRET + "\n"
        process.communicate(b"x\n", timeout=DEADLINE_S)

    @pytest.mark.parametrize("why", ["revoked", "locked", "stopped"])
    def test_what_was_taken_away_on_purpose_is_not_asked_for_again(
        self, driver: Driver, agent: AgentSide, why: str
    ) -> None:
        process = driver.start(
            driver.line("sh", "-c", TRAP.format(n=15), socket=agent.path, restart=True)
        )
        read_until(process.stdout, b"ready\n")
        agent.end_lease(why)
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 7

    def test_what_cannot_be_had_again_is_a_revocation(
        self, driver: Driver, agent: AgentSide
    ) -> None:
        process = driver.start(
            driver.line("sh", "-c", TRAP.format(n=15), socket=agent.path, restart=True)
        )
        read_until(process.stdout, b"ready\n")
        agent.say({"values": {"TOKEN": None}})
        agent.end_lease("expired")
        _, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 7
        assert b"the command is told to end" in err

    def test_where_it_fails_the_other_leases_are_still_held(
        self, driver: Driver, agent: AgentSide
    ) -> None:
        line = driver.line(
            "sh", "-c", "echo ready; read x",
            values={"A": SECRET, "B": SECRET}, socket=agent.path, restart=True, on_revoke="ignore",
        )  # fmt: skip
        process = driver.start(line)
        read_until(process.stdout, b"ready\n")
        agent.say({"values": {"A": None}})
        agent.end_lease("expired", "l-1")
        read_until(process.stderr, b"goes on")
        process.communicate(b"x\n", timeout=DEADLINE_S)
        assert agent.hear("release") == {"leases": ["l-3"]}  # what was had of the second try
        assert agent.hear("release") == {"leases": ["l-2"]}

    def test_a_file_is_written_anew(self, driver: Driver, agent: AgentSide, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir(mode=0o700)
        line = driver.line(
            "bash", "-c", "wc -c <$KEY; read -t 20 x",
            values={}, files={"KEY": SECRET}, folder=str(folder), socket=agent.path, restart=True,
        )  # fmt: skip
        process = driver.start(line)
        assert read_until(process.stdout, b"\n") == b"15\n"
        agent.say({"values": {"KEY": "another-secret-value"}})
        agent.end_lease("expired")
        assert read_until(process.stdout, b"\n") == b"20\n"
        process.communicate(b"x\n", timeout=DEADLINE_S)
        assert list(folder.iterdir()) == []


class TestLeases:
    def test_they_are_given_back_at_the_end(self, driver: Driver, agent: AgentSide) -> None:
        process = driver.start(driver.line("true", socket=agent.path))
        assert agent.hear("release") == {"leases": ["l-1"]}
        process.communicate(timeout=DEADLINE_S)

    def test_they_are_given_back_when_the_command_cannot_be_run(
        self, driver: Driver, agent: AgentSide, tmp_path: Path
    ) -> None:
        script = tmp_path / "script"
        script.write_text("#!/no/such/interpreter\n")
        script.chmod(0o755)
        process = driver.start(driver.line(str(script), socket=agent.path))
        assert agent.hear("release") == {"leases": ["l-1"]}
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 127

    def test_they_are_given_back_when_another_cannot_be_had(
        self, driver: Driver, agent: AgentSide
    ) -> None:
        line = driver.line("true", values={"A": SECRET, "B": None}, socket=agent.path)
        process = driver.start(line)
        assert agent.hear("release") == {"leases": ["l-1"]}
        _, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 125
        assert SECRET.encode() not in err

    def test_they_are_renewed_while_the_child_lives(self, driver: Driver, agent: AgentSide) -> None:
        line = driver.line("sh", "-c", "read x", ttl_s=0.1, renewable=True, socket=agent.path)
        process = driver.start(line)
        assert agent.hear("renew")["lease"] == "l-1"
        process.communicate(b"x\n", timeout=DEADLINE_S)
        assert process.returncode == 0

    def test_events_are_asked_for_before_the_first_lease(
        self, driver: Driver, agent: AgentSide
    ) -> None:
        process = driver.start(driver.line("true", socket=agent.path))
        assert agent.hear("events") is None
        process.communicate(timeout=DEADLINE_S)


class TestFiles:
    def test_the_path_is_told_and_the_file_gone_afterwards(
        self, driver: Driver, tmp_path: Path
    ) -> None:
        folder = tmp_path / "folder"
        folder.mkdir(mode=0o700)
        done = driver.shell(
            "echo $KEY; cat $KEY; stat -c %a $KEY",
            values={}, files={"KEY": SECRET}, folder=str(folder),
        )  # fmt: skip
        assert done.stdout.decode() == f"{folder}/KEY\n*****600\n"
        assert list(folder.iterdir()) == []

    def test_without_a_folder_it_is_in_memory_at_a_declared_descriptor(
        self, driver: Driver
    ) -> None:
        done = driver.shell(
            "echo $KEY; cat $KEY; echo; cat $KEY; echo; ls /proc/$$/fd",
            values={}, files={"KEY": SECRET},
        )  # fmt: skip
        assert done.stdout == b"/dev/fd/40\n*****\n*****\n0\n1\n2\n40\n"

    def test_a_value_that_no_environment_holds_goes_by_file(self, driver: Driver) -> None:
        done = driver.shell("od -An -tx1 $KEY", values={}, files={"KEY": "a\0b\udcff"})
        assert done.stdout == b" 61 00 62 ff\n"
        done = driver.shell("echo no", values={"KEY": "a\0b"})
        assert done.returncode == 125
        assert b"has a NUL" in done.stderr
        assert done.stdout == b""
