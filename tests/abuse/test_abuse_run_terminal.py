"""A child of `run` in a real terminal under a real shell: it has all of a terminal but ours.

Abuse 35, T18: keys, colours and modes pass through; nothing gets out the other way.  Everything is
typed into bash, and what is asserted is what a person would see.
"""

import os
import re
import select
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.real import need
from unit.run.desk import Desk, desk_in
from unit.run.driving import SECRET

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


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as made:
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
        assert select.select([watched], [], [], 20)[0]
        os.close(watched)
        assert (tmp_path / "proof").read_text() == "hup\n"
