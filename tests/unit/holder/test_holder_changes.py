"""Identity is taken afresh at each request: whatever changed since the last one is seen."""

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from secret_agent.holder import Namespaces, Peer
from support.puppets import (
    Door,
    Puppet,
    kill,
    kill_stranger,
    until,
)
from support.real import need

PYTHON = str(Path(sys.executable).resolve())
PYTHON_ID = (os.stat(PYTHON).st_dev, os.stat(PYTHON).st_ino)  # noqa: PTH116  # both at once


def peer_of(puppet: Puppet, own: Namespaces) -> Peer:
    return Peer.from_socket(puppet.socket, own=own)


def test_an_exec_after_the_connect_is_seen(door: Door, own: Namespaces) -> None:
    """Same pid, same pidfd, another program."""
    puppet, _ = door.puppet()
    peer = peer_of(puppet, own)
    before = peer.identify(scope=None)
    sleep = need("sleep")
    puppet.do_exec(door, f"os.execv({sleep!r}, ['python3', '60'])")
    after = peer.identify(scope=None)
    assert after.exe == str(Path(sleep).resolve())
    assert after.exe_id not in (None, before.exe_id)
    assert after.process == before.process
    assert peer.alive()
    peer.close()


def test_an_exec_of_the_same_program_in_another_namespace_is_seen(
    door: Door, own: Namespaces
) -> None:
    """The executable says nothing new, its place in memory does, so that all is read again."""
    puppet, _ = door.puppet()
    peer = peer_of(puppet, own)
    assert peer.identify(scope=None).foreign_namespaces == ()
    unshare = subprocess.run([need("unshare"), "-Ur", "true"], check=False, capture_output=True)
    if unshare.returncode:
        pytest.skip("the kernel grants this user no user namespace")
    code = f"os.execv({need('unshare')!r}, ['unshare', '-Urm', *{puppet_again(puppet)!r}])"
    puppet.do("connection.set_inheritable(True)")
    puppet.send(code)
    again = Puppet(puppet.socket.dup())
    after = peer.identify(scope=None)
    assert (after.exe, after.exe_id) == (PYTHON, PYTHON_ID)
    assert after.foreign_namespaces == ("user", "mnt")
    again.close()
    peer.close()


def puppet_again(puppet: Puppet) -> list[str]:
    """The command with which a puppet goes on, on the same connection, after an exec."""
    number = puppet.do("result = connection.fileno()")
    script = puppet.do("result = sys.argv[0]").strip("'")
    return [sys.executable, "-I", "-S", script, f"fd:{number}"]


def test_a_new_working_directory_is_seen(door: Door, own: Namespaces, tmp_path: Path) -> None:
    puppet, _ = door.puppet()
    peer = peer_of(puppet, own)
    peer.identify(scope=None)
    folder = tmp_path / "a b\n\N{SNOWMAN}"
    folder.mkdir()
    puppet.do(f"os.chdir({str(folder)!r})")
    assert peer.identify(scope=None).cwd == str(folder.resolve())
    peer.close()


def test_a_removed_executable_is_told_as_removed(
    door: Door, own: Namespaces, tmp_path: Path
) -> None:
    puppet, _ = door.puppet()
    peer = peer_of(puppet, own)
    copied = tmp_path / "sleep"
    copied.write_bytes(Path(need("sleep")).read_bytes())
    copied.chmod(0o700)
    puppet.do_exec(door, f"os.execv({str(copied)!r}, ['sleep', '60'])")
    before = peer.identify(scope=None)
    assert before.exe == str(copied.resolve())
    copied.unlink()
    after = peer.identify(scope=None)
    assert after.exe == f"{copied.resolve()} (deleted)"
    assert after.exe_id == before.exe_id
    peer.close()


def test_a_new_session_and_terminal_are_seen(door: Door, own: Namespaces) -> None:
    puppet, process = door.puppet()
    peer = peer_of(puppet, own)
    assert peer.identify(scope=None).session_id != process.pid
    leader, terminal = pty.openpty()
    name = os.ttyname(terminal)
    puppet.do(
        f"os.setsid(); os.open({name!r}, os.O_RDWR)"
    )  # the first terminal it opens is its own
    holder = peer.identify(scope=None)
    assert (holder.session_id, holder.tty) == (process.pid, name)
    peer.close()
    os.close(leader)
    os.close(terminal)


def test_a_setuid_exec_leaves_the_uid_of_the_connect(door: Door, own: Namespaces) -> None:
    """T9: authority is that of the connect; nothing in /proc raises it."""
    puppet, _ = door.puppet(stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    peer = peer_of(puppet, own)
    before = peer.identify(scope=None)
    puppet.do_exec(door, f"os.execv({need('su')!r}, ['su', '-c', 'cat'])")
    after = peer.identify(scope=None)
    assert (after.uid, after.gid) == (before.uid, before.gid) == (os.geteuid(), os.getegid())
    assert after.process == before.process
    assert after.exe != before.exe
    peer.close()


def test_the_death_of_the_parent_is_seen(door: Door, own: Namespaces) -> None:
    shell = door.start([need("bash"), "-c", f"{door.line()} & wait"])
    peer = peer_of(door.accept(), own)
    before = peer.identify(scope=None)
    assert before.shell is not None
    assert before.shell.pid == before.ancestry[0].key.pid == shell.pid
    kill(shell)
    after = peer.identify(scope=None)
    assert shell.pid not in {ancestor.key.pid for ancestor in after.ancestry}
    assert after.shell != before.shell
    peer.close()


def test_the_death_of_a_grandparent_is_seen(door: Door, own: Namespaces) -> None:
    """The parent lives and is the same; the shell above it is not there any more."""
    script = f"{need('env')} {need('setsid')} --fork --wait {door.line()} & wait; :"
    shell = door.start([need("bash"), "-c", f"( {script} ) & wait"])
    peer = peer_of(door.accept(), own)
    before = peer.identify(scope=None)
    assert shell.pid in {ancestor.key.pid for ancestor in before.ancestry[1:]}
    kill(shell)
    after = peer.identify(scope=None)
    assert shell.pid not in {ancestor.key.pid for ancestor in after.ancestry}
    assert after.ancestry[0] == before.ancestry[0]
    kill_stranger(after.ancestry[0].key.pid)
    peer.close()


def test_the_death_of_an_ancestor_above_the_shell_is_seen(door: Door, own: Namespaces) -> None:
    """Those above are not looked at again each time; that they live is."""
    inner = shlex.join([need("dash"), "-c", f"{door.line()}; :"])
    middle = shlex.join([need("bash"), "-c", f"{inner} & wait"])
    outer = door.start([need("bash"), "-c", f"{middle} & wait"])
    peer = peer_of(door.accept(), own)
    before = peer.identify(scope=None)
    assert before.shell_name == "dash"
    assert outer.pid in {ancestor.key.pid for ancestor in before.ancestry[2:]}
    kill(outer)
    after = peer.identify(scope=None)
    assert after.shell == before.shell
    assert outer.pid not in {ancestor.key.pid for ancestor in after.ancestry}
    for orphan in after.ancestry[1::-1]:
        kill_stranger(orphan.key.pid)
    peer.close()


def test_an_exec_of_the_shell_above_is_seen(door: Door, own: Namespaces) -> None:
    script = f"{door.line()} </dev/null & read -r _; exec {need('sleep')} 60"
    shell = door.start([need("bash"), "-c", script])
    peer = peer_of(door.accept(), own)
    before = peer.identify(scope=None)
    assert before.shell is not None
    assert (before.shell.pid, before.shell_name) == (shell.pid, "bash")
    assert shell.stdin is not None
    shell.stdin.write(b"go\n")
    shell.stdin.flush()
    exe = Path(f"/proc/{shell.pid}/exe")
    until(lambda: exe.resolve().name != "bash")
    after = peer.identify(scope=None)
    assert after.ancestry[0].key == before.ancestry[0].key
    assert after.ancestry[0].name == "sleep"
    assert after.shell != before.shell
    peer.close()


def test_where_nothing_changed_the_same_holder_is_returned(door: Door, own: Namespaces) -> None:
    puppet, _ = door.puppet()
    peer = peer_of(puppet, own)
    assert peer.identify(scope=None) is peer.identify(scope=None)
    assert peer.identify(scope="s-1").scope == "s-1"
    assert peer.identify(scope=None).scope is None
    peer.close()
