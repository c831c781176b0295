"""Run a command with secrets: fetch, start, stay with it, give everything back.

    fetch       all values, or none                             (run_holding.py)
    run         the child, masked, in its own terminal          (run_loop.py)
    a loss      a lease ended: what --on-revoke says, or anew   (here)
    the end     leases given back, files removed, the child's exit status

The agent is a connection that has asked for events; nothing here knows how it was made.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from secret_agent_client import run_holding, run_leases
from secret_agent_client.child import Command, declared_in
from secret_agent_client.child_monitor import GRACE_S
from secret_agent_client.environment import Plan
from secret_agent_client.errors import SecretAgentError
from secret_agent_client.files import ValueFiles
from secret_agent_client.masking_patterns import Patterns, compile_patterns
from secret_agent_client.pty_terminal import Terminal
from secret_agent_client.run_holding import Ask, Fetched, Reply, Request, Terms
from secret_agent_client.run_leases import Leases, Loss, boot_time
from secret_agent_client.run_loop import Ended, Reaction, Run
from secret_agent_client.run_plumbing import open_standard_streams

OnRevoke = Literal["terminate", "hup", "ignore"]

_COMES_ANEW = frozenset({"expired", "rotated"})  # ends after which the same can be had again


class Agent(run_leases.Agent, Protocol):
    """What is asked of a connection to the agent."""

    def call_many(self, requests: list[Request], /) -> list[Reply]: ...


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run, and how.

    program: the file that argv[0] was found to be.  grace_s: between SIGTERM and SIGKILL.
    """

    program: str
    argv: tuple[str, ...]
    plan: Plan
    terms: Terms = field(default_factory=Terms)
    on_revoke: OnRevoke = "terminate"
    restart: bool = False
    mask: bool = True
    grace_s: float = GRACE_S


class SecretRun:
    """One `secret-agent run`.

    agent: None for a plan that wants nothing.  say: a line for the person, on standard error.
    """

    def __init__(self, agent: Agent | None, job: Job, say: Callable[[str], None]) -> None:
        self._agent = agent
        self._job = job
        self._say = say
        self._leases = Leases(agent)
        self._terminal: Terminal | None = None
        self._folder: Mapping[str, Any] | None = None  # one for all restarts
        self._next: Fetched | None = None
        self._ever: set[bytes] = set()
        self._has_said: set[str] = set()

    def run(self, ask: Ask | None = None) -> int:
        """The exit status of the command.

        Raises CommandError where it cannot be executed, SecretAgentError where a secret cannot be
        had.  ask: how the agent is asked for them at first, where a person may have to unlock.
        """
        open_standard_streams()
        fetched = self._fetch(ask)
        fetched.hold(self._leases, boot_time())
        self._warn_unmasked(fetched)
        self._terminal = Terminal.find()
        try:
            while True:
                ended = self._run_once(fetched)
                if not ended.restart or self._next is None:
                    return ended.status
                fetched, self._next = self._next, None
        finally:
            self._leases.release()

    def fileno(self) -> int | None:
        return self._leases.fileno()

    @property
    def deadline(self) -> float | None:
        return self._leases.deadline

    def take(self, now: float) -> Reaction:
        """What the agent said, as the loop wants it."""
        losses = self._leases.take(now)
        if not losses:
            return "none"
        if self._job.restart and self._can_begin_anew(losses, now):
            return self._react("restart", losses)
        if self._job.on_revoke == "ignore":
            self._react("none", losses)
            return "none"
        return self._react(self._job.on_revoke, losses)

    def _fetch(self, ask: Ask | None = None) -> Fetched:
        if self._agent is None or not self._job.plan.wanted:
            return Fetched()
        self._agent.call("events")  # before the first lease, so that no end of one is missed
        return run_holding.fetch(ask or self._agent.call_many, self._job.plan, self._job.terms)

    def _run_once(self, fetched: Fetched) -> Ended:
        files = run_holding.place_files(self._workdir, self._job.plan, fetched)
        try:
            return Run(
                self._command(fetched, files),
                terminal=self._terminal,
                patterns=self._patterns(fetched),
                watch=self,
                clock=boot_time,
                grace_s=self._job.grace_s,
            ).run()
        finally:
            files.remove()

    def _workdir(self) -> Mapping[str, Any]:
        if self._folder is None:
            assert self._agent is not None  # noqa: S101  # there are values, so it gave them
            self._folder = self._agent.call("workdir")
        return self._folder

    def _command(self, fetched: Fetched, files: ValueFiles) -> Command:
        job = self._job
        environment = run_holding.environment_of(job.plan, fetched, files)
        descriptors = (*declared_in(job.argv), *files.descriptors)
        return Command(job.program, job.argv, environment, descriptors)

    def _patterns(self, fetched: Fetched) -> Patterns | None:
        """What is masked: the values, and those of the runs before a restart."""
        self._ever |= set(fetched.values.values())
        return compile_patterns(self._ever) if self._job.mask else None

    def _can_begin_anew(self, losses: Sequence[Loss], now: float) -> bool:
        """Fetch everything again, if the losses are such that it makes sense."""
        if any(loss.why not in _COMES_ANEW for loss in losses):
            return False
        try:
            self._next = self._fetch()
        except SecretAgentError:
            return False
        before = self._leases.forget()
        self._next.hold(self._leases, now)
        # What was asked for again may have kept its lease.
        self._leases.release(set(before) - set(self._leases.ids))
        return True

    def _react(self, reaction: Reaction, losses: Sequence[Loss]) -> Reaction:
        if reaction not in self._has_said:
            self._has_said.add(reaction)
            self._tell(f"{_lost(losses)}: {_MEANS[reaction]}")
        return reaction

    def _warn_unmasked(self, fetched: Fetched) -> None:
        names = run_holding.unmasked_names(fetched) if self._job.mask else []
        if names:
            self._tell(f"too short to be masked in the output: {', '.join(names)}")

    def _tell(self, text: str) -> None:
        if self._terminal is None:
            self._say(text)
            return
        with self._terminal.readable():
            self._say(text)


_MEANS = {
    "terminate": f"the command is told to end, and is killed after {GRACE_S:g} s",
    "hup": "the command is told with SIGHUP",
    "none": "the command goes on, as --on-revoke ignore says",
    "restart": "it could be had again, so the command is started anew",
}


def _lost(losses: Sequence[Loss]) -> str:
    """What was lost and why, in one line."""
    first = losses[0]
    if first.secret is None:
        return f"every lease is over, because {first.why}"
    secrets = sorted({loss.secret for loss in losses if loss.secret is not None})
    few = ", ".join(secrets[:3]) + (f" and {len(secrets) - 3} more" if len(secrets) > 3 else "")
    return f"the lease of {few} is over ({first.why})"
