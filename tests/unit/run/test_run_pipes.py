"""A child without a terminal: what it gets, what comes out, and how it ends, is as without us."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.terminal import DEADLINE_S
from unit.run.driving import SECRET, Driver, read_until

PRINT_DESCRIPTORS = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"

# A session of its own with a shell's arrangement: a job in a group of its own, continued when it
# stops.
JOB_CONTROL = """
import os, signal, subprocess, sys
job = subprocess.Popen(sys.argv[1:], process_group=0)
while True:
    _, status = os.waitpid(job.pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        break
    os.write(1, f"stopped {os.WSTOPSIG(status)}\\n".encode())
    os.killpg(job.pid, signal.SIGCONT)
os.write(1, f"exit {os.waitstatus_to_exitcode(status)}\\n".encode())
"""


class TestExit:
    @pytest.mark.parametrize("status", [0, 1, 2, 77, 125, 126, 127, 255])
    def test_the_status_of_the_command_is_ours(self, driver: Driver, status: int) -> None:
        assert driver.shell(f"exit {status}").returncode == status

    @pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 13, 15])
    def test_a_command_that_a_signal_ends_gives_128_and_it(
        self, driver: Driver, number: int
    ) -> None:
        assert driver.shell(f"ulimit -c 0; kill -{number} $$").returncode == 128 + number

    def test_a_command_that_is_not_there_gives_127(self, driver: Driver) -> None:
        done = driver.run("no-such-command-at-all")
        assert done.returncode == 127
        assert b"no-such-command-at-all was not found" in done.stderr

    @pytest.mark.parametrize("name", ["/etc/passwd", "/etc"])
    def test_a_command_that_cannot_be_run_gives_126(self, driver: Driver, name: str) -> None:
        assert driver.run(name).returncode == 126

    def test_a_script_whose_interpreter_is_gone_gives_127(
        self, driver: Driver, tmp_path: Path
    ) -> None:
        script = tmp_path / "script"
        script.write_text("#!/no/such/interpreter\n")
        script.chmod(0o755)
        done = driver.run(str(script))
        assert done.returncode == 127
        assert b"interpreter" in done.stderr

    def test_a_script_without_an_interpreter_is_sh(self, driver: Driver, tmp_path: Path) -> None:
        script = tmp_path / "script"
        script.write_text('echo "$1" of $#\n')
        script.chmod(0o755)
        assert driver.run(str(script), "a b", "c").stdout == b"a b of 2\n"

    def test_a_binary_of_another_machine_gives_126_or_is_taken_for_a_script(
        self, driver: Driver, tmp_path: Path
    ) -> None:
        broken = tmp_path / "broken"
        broken.write_bytes(b"\x7fELF\x00\x00")
        broken.chmod(0o755)
        assert driver.run(str(broken)).returncode in (126, 127, 2)

    def test_a_secret_that_cannot_be_had_gives_125_and_runs_nothing(
        self, driver: Driver, tmp_path: Path
    ) -> None:
        proof = tmp_path / "proof"
        done = driver.shell(f"touch {proof}", values={"TOKEN": None})
        assert done.returncode == 125
        assert not proof.exists()
        assert b"TOKEN" in done.stderr


class TestStreams:
    def test_both_outputs_are_masked_and_stay_apart(self, driver: Driver) -> None:
        done = driver.shell('echo "out $TOKEN"; echo "err $TOKEN" >&2')
        assert (done.stdout, done.stderr) == (b"out *****\n", b"err *****\n")

    def test_standard_input_reaches_the_child_untouched(self, driver: Driver) -> None:
        data = bytes(range(256)) * 1000
        assert driver.run("cat", stdin=data).stdout == data

    def test_standard_input_is_not_read_ahead(self, driver: Driver) -> None:
        """What the child leaves is there for whoever comes next."""
        script = f"({' '.join(driver.line('head', '-c', '4'))}; cat)"
        done = subprocess.run(
            ["sh", "-c", script],
            input=b"onlyrest",
            capture_output=True,
            env=driver.environment(),
            check=True,
        )
        assert done.stdout == b"onlyrest"

    def test_a_value_that_the_child_gets_on_its_input_is_masked_too(self, driver: Driver) -> None:
        assert driver.run("cat", stdin=f"<{SECRET}>".encode()).stdout == b"<*****>"

    def test_without_masking_the_child_has_our_own_descriptors(
        self, driver: Driver, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        with out.open("wb") as file:
            line = driver.line("sh", "-c", "echo $TOKEN; readlink /proc/$$/fd/1", mask=False)
            driver.start(line, stdout=file).communicate(timeout=DEADLINE_S)
        assert out.read_text() == f"{SECRET}\n{out}\n"

    def test_outputs_that_are_one_file_keep_their_order(
        self, driver: Driver, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        script = "for i in 1 2 3 4 5 6 7 8 9; do echo out $i; echo err $i >&2; done"
        with out.open("wb") as file:
            line = driver.line("sh", "-c", script)
            driver.start(line, stdout=file, stderr=file).communicate(timeout=DEADLINE_S)
        expected = "".join(f"out {n}\nerr {n}\n" for n in range(1, 10))
        assert out.read_text() == expected

    def test_a_value_split_over_outputs_that_are_one_file_is_masked(
        self, driver: Driver, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        with out.open("wb") as file:
            line = driver.line("sh", "-c", f"printf {SECRET[:7]}; printf %s {SECRET[7:]} >&2")
            driver.start(line, stdout=file, stderr=file).communicate(timeout=DEADLINE_S)
        assert out.read_bytes() == b"*****"

    def test_standard_streams_that_are_closed_are_no_trouble(self, driver: Driver) -> None:
        line = driver.line("sh", "-c", "ls /proc/self/fd; exit 5")
        script = " ".join(f"'{word}'" for word in line) + " <&- >&- 2>&-"
        done = subprocess.run(["sh", "-c", script], env=driver.environment(), check=False)
        assert done.returncode == 5

    def test_a_reader_that_goes_away_ends_the_child_by_sigpipe(self, driver: Driver) -> None:
        process = driver.start(driver.line("sh", "-c", "while :; do echo line; done; exit 9"))
        assert process.stdout is not None
        process.stdout.read(5)
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 128 + signal.SIGPIPE
        process.communicate()

    def test_a_reader_that_is_slow_slows_the_child_down(self, driver: Driver) -> None:
        """What waits in us is bounded: the child comes to a stop."""
        process = driver.start(driver.line("sh", "-c", "yes & wait; echo done"))
        assert process.stdout is not None
        read_until(process.stdout, b"y\n")
        before = _written(process.pid)
        while (now := _written(process.pid)) != before:
            before = now
            select.select([], [], [], 0.05)  # as long as something still moves
        assert before < 4 * 1024 * 1024
        process.kill()
        process.communicate(timeout=DEADLINE_S)

    def test_all_that_a_child_wrote_before_it_ended_comes_out(self, driver: Driver) -> None:
        script = "head -c 3000000 /dev/zero; echo end >&2; kill -9 $$"
        done = driver.shell(script)
        assert len(done.stdout) == 3_000_000
        assert done.stderr == b"end\n"

    def test_what_a_child_leaves_behind_is_not_waited_for(self, driver: Driver) -> None:
        done = driver.shell("sleep 300 & echo $!")
        os.kill(int(done.stdout), signal.SIGKILL)
        assert done.returncode == 0

    def test_a_beginning_of_a_value_is_shown_at_the_end(self, driver: Driver) -> None:
        assert driver.shell(f"printf {SECRET[:-1]}").stdout == SECRET[:-1].encode()

    def test_a_prompt_that_looks_like_a_beginning_is_shown_while_the_child_waits(
        self, driver: Driver
    ) -> None:
        process = driver.start(driver.line("sh", "-c", "printf 'who? hunt'; read x; echo $x"))
        assert read_until(process.stdout, b"hunt") == b"who? hunt"
        out, _ = process.communicate(b"me\n", timeout=DEADLINE_S)
        assert out == b"me\n"


class TestDescriptors:
    def test_the_child_sees_its_streams_and_nothing_else(self, driver: Driver) -> None:
        assert driver.run(sys.executable, "-c", PRINT_DESCRIPTORS).stdout == b"[0, 1, 2]\n"

    def test_what_we_inherited_does_not_go_on(self, driver: Driver, tmp_path: Path) -> None:
        line = driver.line(sys.executable, "-c", PRINT_DESCRIPTORS)
        with (tmp_path / "file").open("w") as file:
            process = driver.start(line, pass_fds=[file.fileno()])
            out, _ = process.communicate(timeout=DEADLINE_S)
        assert out == b"[0, 1, 2]\n"

    def test_what_the_command_line_names_does(self, driver: Driver) -> None:
        words = " ".join(f"'{word}'" for word in driver.line("diff"))
        done = subprocess.run(
            ["bash", "-c", f"{words} <(echo one) <(echo two)"],
            env=driver.environment(),
            capture_output=True,
            check=False,
        )
        assert done.stdout == b"1c1\n< one\n---\n> two\n"

    def test_no_value_is_in_the_arguments_of_any_process(self, driver: Driver) -> None:
        script = "cat /proc/$$/cmdline /proc/$PPID/cmdline | tr '\\0' ' '"
        done = driver.shell(script, mask=False)
        assert SECRET.encode() not in done.stdout
        assert b"driver.py" in done.stdout

    def test_the_monitor_holds_none_of_the_streams(self, driver: Driver) -> None:
        done = driver.shell("readlink /proc/$$/fd/1; ls -l /proc/$PPID/fd")
        pipe, _, held = done.stdout.decode().partition("\n")
        assert pipe.startswith("pipe:")
        assert pipe not in held


class TestSignals:
    @pytest.mark.parametrize("number", [1, 2, 3, 10, 12, 15])
    def test_a_signal_for_us_reaches_the_child_once(self, driver: Driver, number: int) -> None:
        script = f"trap 'echo got' {number}; echo ready; for i in 1 2 3; do sleep 0.1; done"
        process = driver.start(driver.line("sh", "-c", script))
        read_until(process.stdout, b"ready\n")
        process.send_signal(number)
        out, _ = process.communicate(timeout=DEADLINE_S)
        assert out.count(b"got") == 1

    @pytest.mark.parametrize("number", [1, 2, 3, 10, 12, 15])
    def test_a_signal_that_ends_the_child_ends_us_with_its_status(
        self, driver: Driver, number: int
    ) -> None:
        process = driver.start(driver.line("sh", "-c", "ulimit -c 0; echo ready; exec sleep 300"))
        read_until(process.stdout, b"ready\n")
        process.send_signal(number)
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 128 + number

    def test_it_reaches_what_the_child_has_started_too(self, driver: Driver) -> None:
        process = driver.start(driver.line("sh", "-c", "sleep 300 & echo $!; wait"))
        pid = int(read_until(process.stdout, b"\n"))
        process.terminate()
        process.communicate(timeout=DEADLINE_S)
        assert _is_gone(pid)

    def test_what_was_ignored_when_we_were_started_is_ignored_by_the_child(
        self, driver: Driver
    ) -> None:
        line = ["nohup", *driver.line("sh", "-c", "kill -HUP $$; kill -HUP $PPID; echo alive")]
        process = driver.start(line)
        out, _ = process.communicate(timeout=DEADLINE_S)
        assert b"alive" in out

    def test_what_python_ignores_is_not(self, driver: Driver) -> None:
        ignored = int(driver.run("grep", "SigIgn", "/proc/self/status").stdout.split()[1], 16)
        assert ignored & (1 << (signal.SIGPIPE - 1)) == 0
        assert ignored & (1 << (signal.SIGXFSZ - 1)) == 0

    def test_when_the_child_stops_so_do_we_and_we_go_on_together(self, driver: Driver) -> None:
        line = driver.line("sh", "-c", "kill -TSTP $$; echo went on; kill -STOP $$; echo again")
        done = driver.start([sys.executable, "-c", JOB_CONTROL, *line])
        out, _ = done.communicate(timeout=DEADLINE_S)
        told = f"stopped {signal.SIGTSTP:d}, went on, stopped {signal.SIGSTOP:d}, again, exit 0"
        assert out.decode().splitlines() == told.split(", ")

    def test_a_stop_that_is_sent_to_us_stops_the_child(self, driver: Driver) -> None:
        # bash: a stop that comes while dash forks (vfork) stops its child alone, and so nobody.
        line = driver.line("bash", "-c", "kill -TSTP $(ps -o ppid= $PPID); sleep 0.1; echo went on")
        done = driver.start([sys.executable, "-c", JOB_CONTROL, *line])
        out, _ = done.communicate(timeout=DEADLINE_S)
        assert out.decode().splitlines() == [f"stopped {signal.SIGTSTP:d}", "went on", "exit 0"]

    def test_where_nobody_controls_jobs_a_stop_does_not_stick(self, driver: Driver) -> None:
        assert driver.shell("kill -TSTP $$; echo went on").stdout == b"went on\n"


class TestKilled:
    def test_when_we_are_killed_the_child_is_told_to_end(
        self, driver: Driver, tmp_path: Path
    ) -> None:
        proof = tmp_path / "proof"
        script = f"trap 'echo told >{proof}; exit' 15; echo $$; sleep 300 & wait"
        process = driver.start(driver.line("sh", "-c", script))
        watched = os.pidfd_open(int(read_until(process.stdout, b"\n")))
        process.kill()
        assert select.select([watched], [], [], DEADLINE_S)[0]
        os.close(watched)
        assert proof.read_text() == "told\n"
        process.communicate()

    def test_when_we_and_the_monitor_are_killed_the_child_ends(self, driver: Driver) -> None:
        process = driver.start(driver.line("sh", "-c", "echo $$ $PPID; exec sleep 300"))
        pid, monitor = map(int, read_until(process.stdout, b"\n").split())
        watched = os.pidfd_open(pid)
        os.kill(monitor, signal.SIGSTOP)  # so that it cannot be first
        process.kill()
        os.kill(monitor, signal.SIGKILL)
        assert select.select([watched], [], [], DEADLINE_S)[0]
        os.close(watched)
        process.communicate(timeout=DEADLINE_S)

    def test_a_child_that_was_stopped_ends_all_the_same(self, driver: Driver) -> None:
        process = driver.start(driver.line("sh", "-c", "echo $$; exec sleep 300"))
        pid = int(read_until(process.stdout, b"\n"))
        watched = os.pidfd_open(pid)
        os.kill(pid, signal.SIGSTOP)
        assert os.waitpid(process.pid, os.WUNTRACED)[1] & 0x7F == 0x7F
        process.kill()
        assert select.select([watched], [], [], DEADLINE_S)[0]
        os.close(watched)
        process.communicate(timeout=DEADLINE_S)

    def test_when_the_monitor_is_killed_the_child_ends_and_we_say_137(self, driver: Driver) -> None:
        process = driver.start(
            driver.line("sh", "-c", "trap '' 15; echo $$ $PPID; sleep 300 & wait")
        )
        pid, monitor = map(int, read_until(process.stdout, b"\n").split())
        watched = os.pidfd_open(pid)
        os.kill(monitor, signal.SIGKILL)
        assert select.select([watched], [], [], DEADLINE_S)[0]
        os.close(watched)
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 137


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _is_gone(pid: int) -> bool:
    for _ in range(2000):
        try:
            if _state(pid) == "Z":
                return True
        except FileNotFoundError:
            return True
        select.select([], [], [], 0.01)
    return False


def _written(pid: int) -> int:
    """Bytes that a process has written so far, as the kernel counts them."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar")))
