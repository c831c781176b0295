"""A child of `run` in a real terminal under a real shell: it has all of a terminal but ours.

`exec sleep`: a key that comes while dash forks (vfork) is lost on it, here as in any terminal.
Abuse 35, T18: keys, signals, job control, size and modes pass through; nothing gets out the other
way.  Everything is typed into bash, and what is asserted is what a person would see.
"""

import fcntl
import os
import re
import signal
import struct
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.real import need
from support.terminal import Terminal
from unit.run.driving import SECRET, AgentSide, Driver, agent_side

pytestmark = pytest.mark.slow

# Pushes keys into the terminal of a descriptor, and says how that went.
PUSH = """
import fcntl, os, sys, termios
for name in sys.argv[1:]:
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_NOCTTY) if name[0] == "/" else int(name)
        for key in b"echo PWNED\\n":
            fcntl.ioctl(descriptor, termios.TIOCSTI, bytes([key]))
        print("pushed", name)
    except OSError as error:
        print("refused", name, error.errno)
"""


# bash's wait returns 148 as long as it knows the job as stopped.
END_JOB = "kill %1; while wait %1 2>/dev/null; s=$?; [ $s = 148 ]; do :; done"


class Desk:
    """bash in a terminal, with `r` and its variants as commands that run under our `run`."""

    def __init__(self, driver: Driver, folder: Path, **env: str) -> None:
        self.driver = driver
        self.rc = folder / "bashrc"
        self.rc.write_text("PS1='$ '\nset +o history\nPROMPT_COMMAND=\n")
        argv = ["bash", "--noprofile", "--rcfile", str(self.rc), "-i"]
        self.terminal = Terminal(argv, env=driver.environment(**env), cwd=folder)

    def command(self, *words: str, **spec: object) -> str:
        """A command line to be typed that runs words under `run`."""
        return " ".join(_quoted(word) for word in self.driver.line(*words, **spec))

    def sh(self, script: str, **spec: object) -> str:
        return self.command("sh", "-c", script, **spec)

    def run(self, line: str) -> str:
        return self.terminal.run(line)

    def type(self, line: str) -> None:
        self.terminal.send(line + "\r")

    def expect(self, pattern: str) -> "re.Match[bytes]":
        """Wait for the pattern after everything that was expected before."""
        found = self.terminal.expect(pattern, start=self.read)
        self.read = found.end()
        return found

    read = 0

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(
            self.terminal._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0)
        )


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(Driver(tmp_path), tmp_path)
    with made.terminal:
        made.run("true")
        made.read = len(made.terminal.seen)
        yield made


class TestOwnTerminal:
    def test_all_three_streams_are_a_terminal_and_not_ours(self, desk: Desk) -> None:
        ours = desk.run("tty")
        theirs = desk.run(desk.sh("tty; test -t 0 && test -t 1 && test -t 2 && echo all"))
        assert theirs.splitlines()[1] == "all"
        assert theirs.splitlines()[0].startswith("/dev/pts/")
        assert theirs.splitlines()[0] != ours

    def test_it_has_a_controlling_terminal(self, desk: Desk) -> None:
        assert desk.run(desk.sh("echo seen >/dev/tty")) == "seen"

    def test_what_it_prints_is_masked_and_keeps_its_colours(self, desk: Desk) -> None:
        seen = desk.run(desk.sh(r'printf "\033[31m%s\033[0m\n" "$TOKEN"'))
        assert seen == "\x1b[31m*****\x1b[0m"

    def test_a_value_written_to_its_terminal_directly_is_masked(self, desk: Desk) -> None:
        assert desk.run(desk.sh("echo $TOKEN >/dev/tty; echo $TOKEN >&2")) == "*****\n*****"

    def test_a_value_that_is_typed_is_masked_in_its_echo(self, desk: Desk) -> None:
        desk.type(desk.sh("echo rea''dy; read x; echo got ${#x}"))
        desk.expect("ready")
        desk.type(SECRET)
        assert SECRET.encode() not in desk.expect("got 15")[0]
        assert SECRET.encode() not in desk.terminal.seen

    def test_only_the_stream_that_is_a_terminal_is_one(self, desk: Desk, tmp_path: Path) -> None:
        tests = "exec 3>/dev/tty; for n in 0 1 2; do test -t $n && echo $n is one >&3; done"
        assert desk.run(desk.sh(tests) + " 2>err") == "0 is one\n1 is one"
        assert desk.run(desk.sh(tests) + " | cat") == "0 is one\n2 is one"
        assert desk.run("echo | " + desk.sh(tests)) == "1 is one\n2 is one"
        assert desk.run(desk.sh(tests) + " </dev/null >out 2>err") == ""

    def test_each_stream_is_masked_where_it_goes(self, desk: Desk, tmp_path: Path) -> None:
        seen = desk.run(desk.sh("echo out $TOKEN; echo err $TOKEN >&2") + " 2>err")
        assert seen == "out *****"
        assert (tmp_path / "err").read_text() == "err *****\n"

    def test_without_masking_it_has_its_own_terminal_all_the_same(self, desk: Desk) -> None:
        ours = desk.run("tty")
        seen = desk.run(desk.sh("tty; echo $TOKEN", mask=False)).splitlines()
        assert seen[0] != ours
        assert seen[1] == SECRET

    def test_it_holds_no_descriptor_of_our_terminal(self, desk: Desk) -> None:
        ours = desk.run("tty")
        held = desk.run(desk.sh("ls -l /proc/$$/fd; ls /proc/$$/fd | wc -l"))
        assert f"-> {ours}\n" not in held + "\n"

    def test_keys_cannot_be_pushed_into_our_terminal(self, desk: Desk, tmp_path: Path) -> None:
        (tmp_path / "push.py").write_text(PUSH)
        ours = desk.run("tty")
        line = desk.command(sys.executable, "push.py", "0", "1", "2", "/dev/tty")
        desk.run(line)
        desk.run(line + " </dev/null 2>err | cat")
        desk.run(line + " </dev/null >out 2>err")
        if os.geteuid() != 0:  # root may push into any terminal that it can open
            assert f"refused {ours}" in desk.run(desk.command(sys.executable, "push.py", ours))
        assert desk.run("echo alive") == "alive"
        shown = re.sub(rb"echo PWNED", b"", desk.terminal.seen)
        assert b"PWNED" not in shown

    def test_a_child_in_the_background_cannot_push_keys_either(
        self, desk: Desk, tmp_path: Path
    ) -> None:
        (tmp_path / "push.py").write_text(PUSH)
        line = desk.command(sys.executable, "push.py", "/dev/tty")
        desk.run(f"{line} </dev/null >out 2>&1 & wait")
        assert desk.run("echo alive") == "alive"
        assert b"\nPWNED" not in desk.terminal.seen


class TestKeys:
    def test_lines_and_end_of_file_are_as_in_any_terminal(self, desk: Desk) -> None:
        desk.type(desk.command("cat") + "; echo st''atus $?")
        desk.expect(r"\n")
        desk.type("hello")
        desk.expect(r"hello\r\nhello\r\n")
        desk.terminal.send("\x04")
        desk.expect("status 0")

    def test_control_c_interrupts_the_child_alone(self, desk: Desk) -> None:
        desk.type(desk.sh("echo rea''dy; exec sleep 300") + "; echo st''atus $?")
        desk.expect("ready")
        desk.terminal.send("\x03")
        desk.expect("status 130")

    def test_control_c_is_one_signal(self, desk: Desk) -> None:
        script = "trap 'echo got it' 2; echo rea''dy; for n in 1 2 3 4 5 6; do sleep 0.1; done"
        desk.type(desk.sh(script) + "; echo st''atus $?")
        desk.expect("ready")
        desk.terminal.send("\x03")
        assert desk.expect(r"status 0")[0]
        assert desk.terminal.seen.count(b"got it\r") == 1

    def test_control_c_that_the_child_handles_ends_nothing(self, desk: Desk) -> None:
        desk.type(desk.command(sys.executable, "-q"))
        desk.expect(">>> ")
        desk.terminal.send("while True: pass\r\r")
        desk.expect(r"\.\.\. .*\n")
        desk.terminal.send("\x03")
        desk.expect("KeyboardInterrupt.*>>> ")
        desk.terminal.send("print(6*7)\r")
        desk.expect("\n42\r.*>>> ")
        desk.terminal.send("import os; os.environ['TOKEN']\r")
        desk.expect(r"'\*\*\*\*\*'.*>>> ")
        desk.terminal.send("\x04")
        desk.expect(r"\$ ")
        assert desk.run("echo alive") == "alive"

    def test_control_backslash_quits(self, desk: Desk) -> None:
        desk.type(desk.sh("ulimit -c 0; echo rea''dy; exec sleep 300") + "; echo st''atus $?")
        desk.expect("ready")
        desk.terminal.send("\x1c")
        desk.expect("status 131")

    def test_raw_keys_reach_a_child_that_wants_them(self, desk: Desk) -> None:
        script = (
            "stty raw -echo; echo rea''dy; dd bs=1 count=4 2>/dev/null | od -An -tx1; stty sane"
        )
        desk.type(desk.sh(script))
        desk.expect("ready")
        desk.terminal.send("\x03\x1a\x04\x11")
        desk.expect("03 1a 04 11")

    def test_a_pipeline_leaves_the_keys_to_its_last_program(self, desk: Desk) -> None:
        """`run -- cat big | less`: less reads the terminal, and we must not."""
        need("less")
        desk.run("seq 1 5000 >big")
        desk.type(desk.command("cat", "big") + " | TERM=xterm less; echo st''atus $?")
        desk.expect(r"\n49\r?\n")
        desk.terminal.send("G")
        desk.expect("5000")
        desk.terminal.send("q")
        desk.expect("status 0")

    def test_less_at_the_end_of_a_pipeline_gets_its_keys(self, desk: Desk) -> None:
        need("less")
        desk.type("seq 1 5000 | TERM=xterm " + desk.command("less") + "; echo st''atus $?")
        desk.expect(r"\n49\r?\n")
        desk.terminal.send("G")
        desk.expect("5000")
        desk.terminal.send("q")
        desk.expect("status 0")

    def test_a_program_that_fills_the_screen_works(self, desk: Desk, tmp_path: Path) -> None:
        need("vim")
        desk.type(
            "TERM=xterm " + desk.command("vim", "-u", "NONE", "-n", "text") + "; echo st''atus $?"
        )
        desk.expect("text")
        desk.terminal.send("ihello from vim\x1b:wq\r")
        desk.expect("status 0")
        assert (tmp_path / "text").read_text() == "hello from vim\n"

    def test_pasting_much_loses_nothing(self, desk: Desk, tmp_path: Path) -> None:
        desk.type(
            desk.sh("stty raw -echo; echo rea''dy; head -c 100000 >pasted; stty sane; echo en''d")
        )
        desk.expect("ready")
        for _ in range(100):
            desk.terminal.send("0123456789" * 100)
        desk.expect("end")
        assert (tmp_path / "pasted").read_text() == "0123456789" * 10000


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
        desk.resize(33, 111)
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
        desk.resize(40, 130)
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


class TestHangUp:
    def test_closing_the_window_ends_the_child(self, desk: Desk, tmp_path: Path) -> None:
        desk.type(
            desk.sh(
                "trap 'echo hup >proof; exit' HUP; echo $$ >pid; echo rea''dy; sleep 300 & wait"
            )
        )
        desk.expect("ready")
        watched = os.pidfd_open(int((tmp_path / "pid").read_text()))
        desk.terminal.hang_up()
        import select

        assert select.select([watched], [], [], 20)[0]
        os.close(watched)
        assert (tmp_path / "proof").read_text() == "hup\n"
