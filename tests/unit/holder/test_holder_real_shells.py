"""The shell of a process, found in real shells: a subshell is climbed, a shell of its own is not.

Each puppet is handed the pid that the shell itself calls its own ($$, $fish_pid), which in a
subshell is that of the shell it was forked from.
"""

import shlex
import signal
from pathlib import Path

import pytest

from secret_agent.holder import Namespaces, Peer
from secret_agent.model import Holder
from support.puppets import Door, Puppet, until
from support.real import need

POSIX = {
    "plain": "{puppet} $$; :",
    "last command": "{puppet} $$",
    "substitution": "x=$({puppet} $$; :); :",
    "substitution of one command": "x=$({puppet} $$); :",
    "backquotes": "x=`{puppet} $$; :`; :",
    "subshell": "({puppet} $$; :); :",
    "subshell in subshell": "(( {puppet} $$; : ); :); :".replace("((", "( ("),
    "substitution in substitution": "x=$(y=$({puppet} $$; :); :); :",
    "head of a pipeline": "{{ {puppet} $$; :; }} | cat; :",
    "middle of a pipeline": ": | {{ {puppet} $$; :; }} | cat; :",
    "tail of a pipeline": ": | {{ {puppet} $$; :; }}; :",
    "background": "{{ {puppet} $$; :; }} & wait",
    "function in a subshell": "f() {{ {puppet} $$; :; }}; (f); :",
    "eval": "eval '{puppet} $$; :'; :",
    "loop with redirection": "for x in 1; do {puppet} $$; done </dev/null; :",
}
NESTED = {
    "nested": "{shell} -c {inner}; :",
    "nested in a subshell": "( {shell} -c {inner}; : ); :",
    "nested in a substitution": "x=$( {shell} -c {inner}; : ); :",
}
FISH = {
    "plain": "{puppet} $fish_pid; true",
    "substitution": "set x ({puppet} $fish_pid; true)",
    "block in a pipeline": "begin; {puppet} $fish_pid; true; end | cat",
    "function": "function f; {puppet} $fish_pid; true; end; f",
}
SHELLS = {
    "bash": ["bash"],
    "dash": ["dash"],
    "zsh": ["zsh", "-f"],
    "busybox": ["busybox", "sh"],
}
INNER = "({puppet} $$; :); :"


def run(door: Door, shell: list[str], script: str) -> tuple[int, Puppet]:
    """Run a script in a shell; the shell's pid, and the puppet that the script starts."""
    process = door.start([need(shell[0]), *shell[1:], "-c", script])
    return process.pid, door.accept()


def identify(puppet: Puppet, own: Namespaces) -> Holder:
    peer = Peer.from_socket(puppet.socket, own=own)
    holder = peer.identify(scope=None)
    peer.close()
    return holder


@pytest.mark.parametrize("script", POSIX.values(), ids=POSIX)
@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_the_shell_is_the_one_whose_script_runs(
    shell: list[str], script: str, door: Door, own: Namespaces
) -> None:
    pid, puppet = run(door, shell, script.format(puppet=door.line()))
    holder = identify(puppet, own)
    if holder.shell is None:
        # The shell gave its process to its last command: the test's own shell, or none, is above.
        assert (script, holder.pid) == (POSIX["last command"], pid)
        return
    if holder.pid != pid:
        assert puppet.words == [str(pid)]
        assert holder.shell.pid == pid
        assert holder.shell_name == ("sh" if shell[0] == "busybox" else shell[0])


@pytest.mark.parametrize("script", NESTED.values(), ids=NESTED)
@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_a_shell_within_a_shell_is_a_shell_of_its_own(
    shell: list[str], script: str, door: Door, own: Namespaces
) -> None:
    inner = shlex.quote(INNER.format(puppet=door.line()))
    command = shlex.join([need(shell[0]), *shell[1:]])
    pid, puppet = run(door, shell, script.format(shell=command, inner=inner))
    holder = identify(puppet, own)
    assert holder.shell is not None
    assert puppet.words == [str(holder.shell.pid)]
    assert holder.shell.pid != pid
    assert pid in {ancestor.key.pid for ancestor in holder.ancestry}


@pytest.mark.parametrize("script", FISH.values(), ids=FISH)
def test_the_shell_is_found_in_fish(script: str, door: Door, own: Namespaces) -> None:
    pid, puppet = run(door, ["fish", "--no-config"], script.format(puppet=door.line()))
    holder = identify(puppet, own)
    assert puppet.words == [str(pid)]
    assert holder.shell is not None
    assert (holder.shell.pid, holder.shell_name) == (pid, "fish")


def test_a_fish_within_a_fish_is_a_shell_of_its_own(door: Door, own: Namespaces) -> None:
    inner = shlex.quote(f"{door.line()} $fish_pid; true")
    fish = need("fish")
    pid, puppet = run(door, ["fish", "--no-config"], f"{fish} --no-config -c {inner}; true")
    holder = identify(puppet, own)
    assert holder.shell is not None
    assert puppet.words == [str(holder.shell.pid)]
    assert holder.shell.pid != pid


def test_a_script_started_by_a_shell_is_the_nearest_shell(door: Door, own: Namespaces) -> None:
    script = door.path.with_name("script")
    script.write_text(f"#!{need('dash')}\n({door.line()} $$; :)\n:\n")
    script.chmod(0o700)
    pid, puppet = run(door, ["bash"], f"({script}; :); :")
    holder = identify(puppet, own)
    assert holder.shell is not None
    assert puppet.words == [str(holder.shell.pid)]
    assert (holder.shell_name, holder.shell.pid == pid) == ("dash", False)


def test_a_busybox_script_is_a_shell_by_its_arguments(door: Door, own: Namespaces) -> None:
    """The kernel calls a script's process by the script's name; only argv[0] says `sh`."""
    sh = door.path.with_name("sh")
    sh.symlink_to(need("busybox"))
    script = door.path.with_name("build")
    script.write_text(f"#!{sh}\n({door.line()} $$; :)\n:\n")
    script.chmod(0o700)
    process = door.start([str(script)])
    holder = identify(door.accept(), own)
    assert holder.shell is not None
    assert (holder.shell.pid, holder.shell_name) == (process.pid, "sh")
    assert next(kin.name for kin in holder.ancestry if kin.key.pid == process.pid) == "build"


def test_a_subshell_that_outlives_its_shell_is_then_the_shell(door: Door, own: Namespaces) -> None:
    pid, puppet = run(door, ["bash"], f"({door.line()} $$; :) & read -r _")
    peer = Peer.from_socket(puppet.socket, own=own)
    before = peer.identify(scope=None)
    assert before.shell is not None
    assert before.shell.pid == pid
    subshell = before.ancestry[0].key
    door.kill(pid)
    after = peer.identify(scope=None)
    assert (after.shell, after.shell_name) == (subshell, "bash")
    peer.close()


def test_a_shell_that_replaces_itself_keeps_its_place(door: Door, own: Namespaces) -> None:
    """`exec zsh` in bash: one process, one key, another shell."""
    inner = shlex.quote(f"{door.line()} $$; :")
    pid, puppet = run(door, ["bash"], f"exec {need('zsh')} -f -c {inner}")
    holder = identify(puppet, own)
    assert holder.shell is not None
    assert (holder.shell.pid, holder.shell_name) == (pid, "zsh")


def test_a_shell_may_connect_itself(door: Door, own: Namespaces) -> None:
    """zsh can; then the holder is its own shell, and in a subshell the one it was forked from."""
    script = f"zmodload zsh/net/socket; (zsocket {door.path}; read -r _ <&$REPLY; :); :"
    process = door.start([need("zsh"), "-f", "-c", script])
    connection = door.accept_raw()
    peer = Peer.from_socket(connection, own=own)
    holder = peer.identify(scope=None)
    assert holder.pid != process.pid
    assert holder.shell is not None
    assert (holder.shell.pid, holder.shell_name) == (process.pid, "zsh")
    peer.close()
    connection.close()


def test_a_stopped_shell_is_still_the_shell(door: Door, own: Namespaces) -> None:
    pid, puppet = run(door, ["bash"], f"({door.line()} $$; :) & wait")
    door.signal(pid, signal.SIGSTOP)
    stat = Path(f"/proc/{pid}/stat")
    until(lambda: b") T " in stat.read_bytes())
    holder = identify(puppet, own)
    assert holder.shell is not None
    assert holder.shell.pid == pid
