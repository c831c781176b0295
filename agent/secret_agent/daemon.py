"""Composition: read the arguments, take the socket, build every part, open the one nursery, end in
order.

The socket answers before anything heavy is imported: the store with its cryptography, policy's
parser and the keyring come
with the first request that needs them.  Told on `--ready-fd`: "ok" once the socket answers, or why
it does not.
"""

import argparse
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import trio

from secret_agent import hardening
from secret_agent.audit.log import AuditLog
from secret_agent.clock import Clock
from secret_agent.config import Settings, load_settings
from secret_agent.core import Agent, Places
from secret_agent.holder.proc import parse_stat
from secret_agent.model import ProcessKey
from secret_agent.places import find_places
from secret_agent.server.listening import Listening
from secret_agent.server.socket import AgentRunsError, bind, identity_of, unlink_socket
from secret_agent.server.verbs import handlers
from secret_agent.triggers.process import ProcessWatcher
from secret_agent_client.errors import SecretAgentError

MAX_FRAMES = 32  # of a bug that are told; endless recursion has a thousand
WINNER_S = 10.0  # that the winner of a race of two starts has, until its socket answers


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent until it is stopped; the exit status."""
    options = _parse(argv)
    ready = Ready(options.ready_fd)
    os.umask(0o077)
    try:
        hardening.harden_process()
        hardening.raise_file_limit()
        places = find_places(options.socket, options.home, private=options.private)
        settings = _settings(places, options)
        listener, lock = bind(places.socket)
    except AgentRunsError as error:
        return _winner_answers(places.socket, ready, error)
    except SecretAgentError as error:
        return ready.failed(error)
    try:
        trio.run(_serve, places, settings, listener, ready, options)
    except BaseExceptionGroup as group:
        refused, bugs = group.split(SecretAgentError)
        if refused is None or bugs is not None:
            raise
        return ready.failed(_first(refused))
    except SecretAgentError as error:
        return ready.failed(error)
    finally:
        os.close(lock)
    return 0


class Ready:
    """The one who started us waits at the other end; without one, stderr is told."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def ok(self) -> None:
        """The socket answers."""
        self._tell("ok\n")

    def failed(self, error: SecretAgentError) -> int:
        """It will not; the exit status."""
        text = error.message + ("" if error.remedy is None else f"\n{error.remedy}")
        if not self._tell(f"{error.code}\n{text}\n"):
            sys.stderr.write(f"secret-agent: {error.message}\n")
            if error.remedy is not None:
                sys.stderr.write(f"  try: {error.remedy}\n")
        return error.exit_status

    def _tell(self, text: str) -> bool:
        if self._descriptor is None:
            return False
        with suppress(OSError):  # who started us may have gone
            os.write(self._descriptor, text.encode())
            os.close(self._descriptor)
        self._descriptor = None
        return True


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="secret_agent", description=__doc__)
    parser.add_argument("--socket", type=Path)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--lifetime", type=int)
    parser.add_argument("--idle", type=int)
    parser.add_argument("--private", action="store_true")
    parser.add_argument("--owner-pid", type=int)
    return parser.parse_args(argv)


def _settings(places: Places, options: argparse.Namespace) -> Settings:
    settings = load_settings(places.config)
    if options.lifetime is not None:
        settings = replace(settings, lifetime_s=options.lifetime)
    if options.idle is not None:
        settings = replace(settings, idle_s=options.idle)
    if options.private:
        settings = replace(settings, on_last_shell="stop")
    return settings


def _winner_answers(path: Path, ready: Ready, error: SecretAgentError) -> int:
    """Another start was quicker: this one succeeds as soon as that agent answers."""
    deadline = Clock().boot() + WINNER_S
    while Clock().boot() < deadline:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            with suppress(OSError):
                probe.connect(os.fspath(path))
                ready.ok()
                return 0
        signal.sigtimedwait((), 0.02)
    return ready.failed(error)


async def _serve(
    places: Places,
    settings: Settings,
    listener: socket.socket,
    ready: Ready,
    options: argparse.Namespace,
) -> None:
    identity = identity_of(os.fspath(places.socket))
    clock = Clock()
    audit = AuditLog.open(
        places.audit, clock=clock, sync=settings.audit_sync, max_file=settings.audit_max_file
    )
    try:
        async with trio.open_nursery() as nursery:
            watcher = ProcessWatcher()
            await nursery.start(audit.run)
            await nursery.start(watcher.run)
            agent = Agent(
                places, settings, audit=audit, watcher=watcher, nursery=nursery, clock=clock
            )
            await _run(agent, nursery, listener, ready, options)
            nursery.cancel_scope.cancel()
    finally:
        listener.close()
        unlink_socket(os.fspath(places.socket), identity)
        audit.close()


async def _run(
    agent: Agent,
    nursery: trio.Nursery,
    listener: socket.socket,
    ready: Ready,
    options: argparse.Namespace,
) -> None:
    """Serve until asked to stop, then end what was granted and record it."""
    listening = Listening(agent, nursery, handlers(agent), report_bug=_report_bug)
    agent.attach(listening)
    agent.workdirs.clean_up()
    await agent.record({"event": "agent", "action": "start", "outcome": "done"})
    nursery.start_soon(listening.serve_control, listener)
    nursery.start_soon(agent.run_timers)
    nursery.start_soon(agent.run_prompt_file)
    await nursery.start(_stop_on_signal, agent)  # before anybody is told that we are there
    if options.owner_pid is not None:
        agent.watcher.watch(_key_of(options.owner_pid), lambda _process: agent.stop())
    ready.ok()
    await agent.stopping.wait()
    await agent.shut_down()
    await agent.record({"event": "agent", "action": "stop", "outcome": "done"})


def _key_of(pid: int) -> ProcessKey:
    """The process that has a pid now: who started us waits for us, so it has not been reused."""
    text = Path(f"/proc/{pid}/stat").read_bytes()
    return ProcessKey(pid, parse_stat(text).start_time)


async def _stop_on_signal(
    agent: Agent, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number != signal.SIGHUP:
                agent.stop()


def _report_bug(error: BaseException) -> None:
    """Say where a bug is, never what was in it: frames by file and line, no message, no locals."""
    lines = [f"secret-agent: bug: {type(error).__name__}"]
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f"  {Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    if len(lines) > MAX_FRAMES:
        lines[MAX_FRAMES // 2 : -MAX_FRAMES // 2] = ["  …"]
    sys.stderr.write("\n".join(lines) + "\n")


def _first(group: BaseException) -> SecretAgentError:
    error = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, SecretAgentError)  # noqa: S101  # split has filtered
    return error
