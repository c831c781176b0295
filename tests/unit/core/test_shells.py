"""Shells are registered by what the kernel shows, and the end of the last one is told once."""

from collections.abc import Callable

import pytest

from secret_agent import shells as module
from secret_agent.holder import open_pidfd
from secret_agent.model import Ancestor, ProcessKey
from secret_agent.shells import ShellRegistry, claimed_shell
from secret_agent_client.errors import DeniedError
from support.holders import holder

BASH = ProcessKey(90, 5)
ZSH = ProcessKey(91, 6)


class Watched:
    """A watcher whose processes end when the test says so."""

    def __init__(self) -> None:
        self.callbacks: dict[ProcessKey, Callable[[ProcessKey], None]] = {}

    def watch(
        self,
        key: ProcessKey,
        callback: Callable[[ProcessKey], None],
        *,
        opener: Callable[[ProcessKey], int] = open_pidfd,
    ) -> None:
        self.callbacks[key] = callback

    def unwatch(self, key: ProcessKey, callback: Callable[[ProcessKey], None]) -> None:
        del self.callbacks[key]

    def end(self, key: ProcessKey) -> None:
        self.callbacks.pop(key)(key)


def test_the_last_shell_to_go_is_told_once() -> None:
    watched, told = Watched(), []
    shells = ShellRegistry(watched, last_gone=lambda: told.append(1))
    shells.register(BASH, "bash", opener=open_pidfd)
    shells.register(BASH, "bash", opener=open_pidfd)
    shells.register(ZSH, "zsh", opener=open_pidfd)
    assert len(shells) == 2
    watched.end(BASH)
    assert told == []
    watched.end(ZSH)
    assert told == [1]


def test_an_exit_hook_says_the_same_sooner() -> None:
    watched, told = Watched(), []
    shells = ShellRegistry(watched, last_gone=lambda: told.append(1))
    shells.register(BASH, "bash", opener=open_pidfd)
    assert shells.unregister(BASH)
    assert not shells.unregister(BASH)
    assert (told, watched.callbacks) == ([1], {})


def test_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SHELLS", 1)
    shells = ShellRegistry(Watched(), last_gone=lambda: None)
    shells.register(BASH, "bash", opener=open_pidfd)
    with pytest.raises(DeniedError):
        shells.register(ZSH, "zsh", opener=open_pidfd)


def ancestor(pid: int, uid: int = 1000, exe: str = "/bin/zsh") -> Ancestor:
    return Ancestor(ProcessKey(pid, 1), exe, "zsh", uid, 50, None)


def test_without_a_claim_the_shell_above_is_meant() -> None:
    assert claimed_shell(holder(), None) == (BASH, "bash")
    assert claimed_shell(holder(shell=None, shell_name=None), None) is None


def test_a_claim_must_be_the_asker_or_above_it_and_of_its_user() -> None:
    line = (ancestor(80), ancestor(81, uid=0), ancestor(82, exe=""))
    asks = holder(ancestry=line)
    assert claimed_shell(asks, 100) == (ProcessKey(100, 7), "bash")
    assert claimed_shell(asks, 80) == (ProcessKey(80, 1), "zsh")
    assert claimed_shell(asks, 82) == (ProcessKey(82, 1), "zsh")
    for pid in (81, 83, 1):
        with pytest.raises(DeniedError, match="neither the asking process nor above it"):
            claimed_shell(asks, pid)
