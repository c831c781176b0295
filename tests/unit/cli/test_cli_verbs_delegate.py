"""A signal that comes before the delegated command is there reaches it all the same."""

import os
import signal
import subprocess

from secret_agent_client.cli.delegate import _passing_signals_on


def test_a_signal_from_before_the_command_is_passed_on_once_it_is_there() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    # SIGUSR1 at its default: the command dies of what it is sent, whenever it is sent.
    with _passing_signals_on() as relay:
        os.kill(os.getpid(), signal.SIGUSR1)
        child = subprocess.Popen(["sleep", "60"])
        relay.pass_to(child)
        assert child.wait(20) == -signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) == before


def test_signals_of_the_terminal_are_left_to_the_terminal() -> None:
    with _passing_signals_on() as relay:
        os.kill(os.getpid(), signal.SIGINT)  # no KeyboardInterrupt here, and nothing for the child
        child = subprocess.Popen(["true"])
        relay.pass_to(child)
        assert child.wait(20) == 0
