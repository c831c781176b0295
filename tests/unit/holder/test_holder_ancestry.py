"""Lines of ancestors: the races of walking them, and how much of them is kept."""

import os
from itertools import pairwise

import pytest

from secret_agent.holder import ancestry
from secret_agent.holder.ancestry import MAX_ANCESTORS, Ancestry, Kin
from secret_agent.holder.pinned import Pinned
from secret_agent.holder.proc import Stat
from support.puppets import Door, open_files, until


class Forgetful(Ancestry):
    """It pins every ancestor anew."""

    def _kept_kin(self, pid: int) -> Kin | None:
        return None


class Child(Pinned):
    """This process, with parents that change as often as it is asked."""

    def __init__(self, *parents: int) -> None:
        super().__init__(os.getpid(), os.pidfd_open(os.getpid()))
        self.parents = list(parents)

    def stat(self) -> Stat:
        told = super().stat()
        parents = getattr(self, "parents", [])
        return told._replace(ppid=parents.pop(0)) if parents else told


def test_a_line_leads_from_the_parent_to_init() -> None:
    child = Pinned.open(os.getpid())
    line = Ancestry().line_of(child, os.getppid())
    assert line[0].pinned.pid == os.getppid()
    assert line[-1].pinned.pid == 1
    for below, above in pairwise(line):
        assert below.stat.ppid == above.pinned.pid
        assert above.ancestor.key.start_time <= below.ancestor.key.start_time
    child.close()


def test_a_parent_that_was_replaced_while_it_was_pinned_is_not_taken(door: Door) -> None:
    """Asked again, the child names another: the pid was some other process's by then."""
    _, stranger = door.puppet()
    child = Child(os.getppid(), os.getppid())
    line = Ancestry().line_of(child, stranger.pid)
    assert line[0].pinned.pid == os.getppid()
    child.close()


def test_a_child_without_a_parent_any_more_has_an_empty_line(door: Door) -> None:
    _, stranger = door.puppet()
    child = Child(0)
    assert Ancestry().line_of(child, stranger.pid) == ()
    child.close()


def test_a_child_that_never_settles_is_given_up(door: Door) -> None:
    one, other = door.puppet()[1].pid, door.puppet()[1].pid
    child = Child(*([other, one] * MAX_ANCESTORS))
    with pytest.raises(ProcessLookupError):
        Forgetful().line_of(child, one)
    child.close()


def test_a_hidden_parent_ends_the_line() -> None:
    """As /proc with hidepid does: no entry, although the child names it."""
    child = Child(*([2**22] * 2))
    assert Ancestry().line_of(child, 2**22) == ()
    child.close()


def test_what_is_kept_is_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ancestry, "MAX_KEPT", 2)
    kept = Ancestry()
    processes = [door.puppet()[1] for _ in range(5)]
    before = open_files()
    for process in processes:
        assert kept._pin(process.pid) is not None
    assert open_files() == before + 3 * 2
    del kept
    assert open_files() == before


def test_an_ancestor_that_nobody_holds_is_let_go(door: Door) -> None:
    _, process = door.puppet()
    before = open_files()
    kin = Kin(Pinned.open(process.pid))
    assert open_files() == before + 3
    del kin
    assert open_files() == before


def test_an_ancestor_that_could_not_be_read_is_let_go_too(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, process = door.puppet()
    before = open_files()

    def hidden(*_: object, **__: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(ancestry, "member_of", hidden)
        assert Ancestry()._pin(process.pid) is None
    assert open_files() == before


def test_an_ancestor_without_an_executable_has_none(door: Door) -> None:
    """Its main thread has ended and another runs on; a kernel thread looks the same."""
    puppet, process = door.puppet()
    puppet.do("import threading, ctypes, signal")
    puppet.do("threading.Thread(target=signal.pause, daemon=True).start()")
    pinned = Pinned.open(process.pid)
    puppet.send("ctypes.CDLL(None).pthread_exit(None)")
    until(lambda: b") Z " in pinned.read("stat"))
    assert pinned.alive()
    kin = Kin(pinned)
    assert kin.ancestor.exe == ""
    assert kin.ancestor.key.pid == process.pid


def test_an_ancestor_that_did_not_change_is_the_same_object(door: Door) -> None:
    puppet, process = door.puppet()
    kin = Kin(Pinned.open(process.pid))
    first = kin.now()
    assert kin.now() is first
    puppet.do("os.setsid()")
    assert kin.now().session_id == process.pid != first.session_id
