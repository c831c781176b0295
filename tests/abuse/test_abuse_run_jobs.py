"""Job control, size and modes of a terminal under `run`, as bash and a person have them without it.

FIELD 5 and 21: Ctrl-Z, fg, bg, resize; the modes of our terminal afterwards, however it ended.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.run.desk import Desk, desk_in
from unit.run.driving import AgentSide, agent_side

pytestmark = pytest.mark.slow

# bash's wait returns 148 as long as it knows the job as stopped.
END_JOB = "kill %1; while wait %1 2>/dev/null; s=$?; [ $s = 148 ]; do :; done"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as made:
        yield made


class TestJobs:
    def test_control_z_stops_and_fg_goes_on(self, desk: Desk) -> None:
        desk.type(desk.sh("echo rea''dy; read x; echo got $x") + "; echo st''atus $?")
        desk.expect("ready")
        desk.terminal.send("\x1a")
        desk.expect(r"Stopped")
        assert "icanon" in desk.run("stty -a | grep -ow '[-]*icanon'")
        desk.read = len(desk.terminal.seen)
        desk.type("fg")
        desk.expect("read x")
        desk.type("words")
        desk.expect("got words")

    def test_bg_goes_on_and_fg_brings_it_back(self, desk: Desk) -> None:
        script = "echo rea''dy; sleep 0.2; echo sle''pt; read x; echo got $x"
        desk.type(desk.command("bash", "-c", script))
        desk.expect("ready")
        desk.terminal.send("\x1a")
        desk.expect("Stopped")
        desk.type("bg")
        desk.expect("slept")
        desk.type("wait")
        desk.expect(r"Stopped")  # it wants the terminal, as any background job that reads
        desk.type("fg")
        desk.expect("read x")
        desk.type("words")
        desk.expect("got words")

    def test_a_job_started_in_the_background_stops_when_it_reads(self, desk: Desk) -> None:
        desk.type(desk.sh("read x; echo got $x") + " &")
        desk.type("wait")
        desk.expect("Stopped")
        desk.type("fg")
        desk.expect("read x")
        desk.type("words")
        desk.expect("got words")

    def test_a_job_in_the_background_may_write_and_end(self, desk: Desk) -> None:
        desk.type(desk.sh("echo from $TOKEN") + " & wait; echo wai''ted")
        desk.expect(r"from \*\*\*\*\*")
        desk.expect("waited")

    def test_kill_by_job_number_ends_it(self, desk: Desk) -> None:
        desk.type(desk.sh("echo rea''dy; exec sleep 300") + " &")
        desk.expect("ready")
        assert desk.run("kill %1; wait %1; echo $?").splitlines()[-1] == "143"

    def test_a_stopped_job_that_is_killed_ends(self, desk: Desk) -> None:
        desk.type(desk.sh("echo rea''dy; exec sleep 300"))
        desk.expect("ready")
        desk.terminal.send("\x1a")
        desk.expect("Stopped")
        assert desk.run(f"{END_JOB}; echo $s").splitlines()[-1] == "143"

    def test_a_shell_inside_has_jobs_of_its_own(self, desk: Desk) -> None:
        desk.type(desk.command("bash", "--noprofile", "--norc", "-i"))
        desk.expect(r"[$#] ")
        desk.type("PS1='inn''er> '; sh -c 'echo rea\"\"dy; exec sleep 300'")
        desk.expect("ready")
        desk.terminal.send("\x1a")
        desk.expect(r"Stopped.*inner> ")
        desk.type(f"{END_JOB}; echo inner $s; exit 3")
        desk.expect(r"inner 143.*\$ ")
        desk.type("echo out''er $?")
        desk.expect("outer 3")

    def test_a_script_that_calls_us_stops_and_goes_on_with_us(
        self, desk: Desk, tmp_path: Path
    ) -> None:
        script = tmp_path / "script"
        script.write_text(desk.sh("echo rea''dy; read x; echo got $x") + "; echo script goes on\n")
        desk.type("sh script")
        desk.expect("ready")
        desk.terminal.send("\x1a")
        desk.expect("Stopped")
        desk.type("fg")
        desk.type("words")
        desk.expect("got words.*script goes on")


class TestSize:
    def test_the_child_has_our_size(self, desk: Desk) -> None:
        desk.run("stty rows 33 columns 111")  # from outside, readline might put it back
        assert desk.run(desk.sh("stty size")) == "33 111"

    def test_a_change_is_told_to_the_child(self, desk: Desk) -> None:
        script = "trap 'stty size; exit' WINCH; echo rea''dy; while :; do sleep 0.05; done"
        desk.type(desk.sh(script))
        desk.expect("ready")
        desk.resize(44, 122)
        desk.expect("44 122")

    def test_a_change_while_it_was_stopped_is_known_afterwards(self, desk: Desk) -> None:
        desk.type(desk.sh("echo rea''dy; read x; stty size"))
        desk.expect("ready")
        desk.terminal.send("\x1a")
        desk.expect("Stopped")
        desk.run("stty rows 40 columns 130")
        desk.read = len(desk.terminal.seen)
        desk.type("fg")
        desk.expect("read x")
        desk.type("")
        desk.expect("40 130")


class TestModes:
    MODES = "stty -g"

    @pytest.mark.parametrize("script", ["true", "exit 3", "kill -9 $$", "stty raw -echo"])
    def test_they_are_as_before_however_the_child_ends(self, desk: Desk, script: str) -> None:
        before = desk.run(self.MODES)
        desk.run(desk.sh(script))
        assert desk.run(self.MODES) == before

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
    def test_they_are_as_before_however_we_end(self, desk: Desk, number: int) -> None:
        """SIGKILL of the wrapper: the monitor, $PPID of the child, is its child."""
        before = desk.run(self.MODES)
        script = f"sleep 0.1; kill -{number} $(ps -o ppid= $PPID); sleep 300"
        desk.run(desk.sh(script))
        assert desk.run(self.MODES) == before

    def test_they_are_as_before_when_the_command_cannot_be_run(
        self, desk: Desk, tmp_path: Path
    ) -> None:
        before = desk.run(self.MODES)
        script = tmp_path / "script"
        script.write_text("#!/no/such/interpreter\n")
        script.chmod(0o755)
        assert "was not found" in desk.run(desk.command("./script") + "; echo $?")
        assert desk.run(self.MODES) == before


class TestRevoked:
    """A lease ends while the child has the terminal."""

    @pytest.fixture
    def agent(self, tmp_path: Path) -> Iterator[AgentSide]:
        with agent_side(tmp_path) as side:
            yield side

    def test_what_is_said_is_a_line_of_its_own_and_the_terminal_stays_the_childs(
        self, desk: Desk, agent: AgentSide
    ) -> None:
        script = (
            "stty raw -echo; echo rea''dy; dd bs=1 count=2 2>/dev/null | od -An -tx1; stty sane"
        )
        desk.type(desk.sh(script, socket=agent.path, on_revoke="ignore"))
        desk.expect("ready")
        agent.end_lease("revoked")
        desk.expect(r"over \(revoked\): the command goes on, as --on-revoke ignore says\r\n")
        desk.terminal.send("\x03\x1a")
        desk.expect("03 1a")

    def test_a_shell_that_ignores_sigterm_is_killed_and_the_modes_are_ours_again(
        self, desk: Desk, agent: AgentSide
    ) -> None:
        before = desk.run("stty -g")
        words = ("env", "PS1=inner> ", "bash", "--noprofile", "--norc", "-i")
        desk.type(desk.command(*words, socket=agent.path, grace_s=0.2) + "; echo st''atus $?")
        desk.expect(r"\ninner> ")
        agent.end_lease("locked")
        desk.expect("status 137")
        assert desk.run("stty -g") == before

    def test_one_that_is_begun_anew_has_the_terminal_again(
        self, desk: Desk, agent: AgentSide
    ) -> None:
        script = "echo rea''dy ${#TOKEN}; read x; echo got $x"
        desk.type(desk.sh(script, socket=agent.path, restart=True))
        desk.expect("ready 15")
        agent.say({"values": {"TOKEN": "another-secret-value"}})
        agent.end_lease("expired")
        desk.expect("ready 20")
        desk.type("words")
        desk.expect("got words")
