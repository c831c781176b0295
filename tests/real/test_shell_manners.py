"""The manners of the hooks in the real shells.

A hook starts no process before a prompt, takes no time, and leaves the user's prompt hooks, traps,
`$?`, `$!` and options alone.
"""

import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.shell_desk import NEVER_ALIVE, Desk, open_shell, source
from support.terminal import ALL, BASH, FISH, PROMPTING, ZSH, Shell, by_name


@pytest.fixture
def desk(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(tmp_path, tmp_path_factory.mktemp("s"))
    yield made
    made.close()


@by_name(ALL)
def test_a_living_agent_costs_one_process_and_prompts_cost_none(desk: Desk, shell: Shell) -> None:
    desk.listen(state="unlocked 0 0")
    before = "__secret_agent_at_prompt; " if shell.runs_before_prompt else ""
    prompts = f"{before}__secret_agent_prompt >/dev/null; " * 3
    # Nothing but our stub can be found: any other program would be an error on stderr.
    done = desk.run(
        shell,
        f"set -gx PATH {desk.programs}; {source(shell)}; {prompts}"
        if shell is FISH
        else f"PATH={desk.programs}; {source(shell)}; {prompts}",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert desk.calls() == ["register --pid"]


@by_name(ALL)
def test_a_stale_socket_that_was_inherited_gives_way_to_the_well_known_one(
    desk: Desk, shell: Shell
) -> None:
    desk.listen(state="locked 0 0")
    done = desk.run(
        shell,
        f"{source(shell)}; echo $SECRET_AGENT_SOCK $SECRET_AGENT_PID",
        SECRET_AGENT_SOCK=str(desk.folder / "gone.sock"),
        SECRET_AGENT_PID=str(NEVER_ALIVE),
    )
    assert done.stdout == f"{desk.socket} {os.getpid()}\n"


@by_name(ALL)
def test_a_scoped_socket_that_was_inherited_stays(
    desk: Desk, shell: Shell, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scoped = tmp_path_factory.mktemp("c") / "scoped.sock"
    desk.listen(state="locked 0 0")
    desk.listen(scoped)
    done = desk.run(
        shell, f"{source(shell)}; echo $SECRET_AGENT_SOCK", SECRET_AGENT_SOCK=str(scoped)
    )
    assert done.stdout == f"{scoped}\n"


@pytest.mark.root
@by_name(ALL)
@pytest.mark.parametrize("inherited", [False, True])
def test_the_agent_of_another_user_is_nobody(desk: Desk, shell: Shell, *, inherited: bool) -> None:
    """Abuse 46, 47, and `sudo -s`: it is neither exported nor talked to."""
    desk.listen(state="unlocked 0 0")
    os.chown(desk.socket, 65534, 65534)
    environment = {"SECRET_AGENT_SOCK": str(desk.socket)} if inherited else {}
    done = desk.run(shell, f'{source(shell)}; echo "[$SECRET_AGENT_SOCK]"', **environment)
    assert done.stdout == "[]\n"
    assert desk.calls() == []


@by_name(ALL)
def test_a_script_starts_no_agent_and_forgets_one_that_is_gone(desk: Desk, shell: Shell) -> None:
    done = desk.run(
        shell, f'{source(shell)}; echo "[$SECRET_AGENT_SOCK]"', SECRET_AGENT_SOCK="/nowhere/a.sock"
    )
    assert done.stdout == "[]\n"
    assert desk.calls() == []


@by_name(tuple(shell for shell in ALL if shell is not FISH))
def test_the_hook_holds_under_errexit_and_nounset_and_twice(desk: Desk, shell: Shell) -> None:
    desk.listen(state="unlocked 0 0")
    before = "__secret_agent_at_prompt; " if shell.runs_before_prompt else ""
    script = f"set -eu; {source(shell)}; {source(shell)}; {before}__secret_agent_prompt; echo done"
    done = desk.run(shell, script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "unlocked done\n", "")


@by_name(PROMPTING)
def test_an_interactive_shell_starts_the_agent_once_and_says_goodbye(
    desk: Desk, shell: Shell
) -> None:
    with open_shell(desk, shell, f"{source(shell)}\n{source(shell)}\n") as terminal:
        assert terminal.run("echo $SECRET_AGENT_SOCK") == str(desk.socket)
        terminal.send("exit\r")
        terminal.wait()
    dialect = shell.name
    starts = [f"start --shell {dialect} --pid"] * 2  # no agent ever listens: each source asks
    assert desk.calls() == starts


@by_name(PROMPTING)
def test_the_users_exit_status_is_kept_before_the_prompt(desk: Desk, shell: Shell) -> None:
    desk.listen(state="unlocked 0 0")
    with open_shell(desk, shell, source(shell) + "\n") as terminal:
        status = "$status" if shell is FISH else "$?"
        terminal.run("true")
        terminal.send("false\r")
        assert terminal.run("true").strip() == ""
        terminal.send("false\r")
        terminal.send(f"echo sta''tus {status}.\r")
        terminal.expect(r"status 1\.")


def test_bash_keeps_prompt_command_and_the_exit_trap(desk: Desk) -> None:
    """No agent listens, so that nothing runs in the background: bash 5.2 itself tells an EXIT trap
    a status of 0 where a child ends in the same moment.
    """
    rc = f"""\
PROMPT_COMMAND='echo mine-$?'
trap 'echo "bye it'"'"'s $?" >{desk.folder}/bye' EXIT
{source(BASH)}
{source(BASH)}
"""
    with open_shell(desk, BASH, rc) as terminal:
        terminal.send("(exit 7)\r")
        terminal.expect(r"mine-7\r")
        terminal.run("trap; declare -p PROMPT_COMMAND")
        for hook in ("__secret_agent_at_exit", "__secret_agent_at_prompt"):
            assert terminal.seen.count(hook.encode()) == 1, "sourced twice, installed once"
        terminal.send("exit 3\r")
        assert terminal.wait() == 3
    assert (desk.folder / "bye").read_text() == "bye it's 3\n"


def test_bash_keeps_an_array_of_prompt_commands(desk: Desk) -> None:
    desk.listen(state="unlocked 0 0")
    rc = f"PROMPT_COMMAND=('echo one-$?' 'echo two-$?')\n{source(BASH)}\n"
    with open_shell(desk, BASH, rc) as terminal:
        terminal.send("(exit 5)\r")
        terminal.expect(r"one-5\r\ntwo-5\r")
        assert terminal.run("echo $__secret_agent_segment").endswith("unlocked")


def test_zsh_keeps_the_users_hooks_and_options(desk: Desk) -> None:
    desk.listen(state="unlocked 0 0")
    rc = f"""\
setopt no_unset ksh_arrays sh_word_split
precmd() {{ echo mine }}
zshexit() {{ echo bye >{desk.folder}/bye }}
{source(ZSH)}
{source(ZSH)}
"""
    with open_shell(desk, ZSH, rc) as terminal:
        terminal.run("true")
        terminal.expect(r"mine\r")
        assert terminal.run("echo ${#precmd_functions[@]} $__secret_agent_segment") == "1 unlocked"
        terminal.send("exit 3\r")
        assert terminal.wait() == 3
    assert (desk.folder / "bye").read_text() == "bye\n"
    assert "unregister --pid" in desk.calls()


@by_name(PROMPTING)
def test_a_replaced_agent_is_joined_at_the_next_prompt_once(desk: Desk, shell: Shell) -> None:
    desk.listen(state="unlocked 0 0")
    with open_shell(desk, shell, source(shell) + "\n") as terminal:
        desk.await_calls(1)
        replaced = f"unlocked 0 0 {os.getppid()}\n"
        desk.line.write_text(replaced)
        terminal.run("true")
        terminal.run("true")
        assert terminal.run("echo $SECRET_AGENT_PID") == str(os.getppid())
    assert desk.calls().count("register --pid") == 2


@by_name(PROMPTING)
def test_prompts_leave_the_last_background_job_to_the_user(desk: Desk, shell: Shell) -> None:
    desk.listen(state="unlocked 0 0")
    with open_shell(desk, shell, source(shell) + "\n") as terminal:
        last = "$last_pid" if shell is FISH else "$!"
        background = terminal.run(f"sleep 60 >/dev/null 2>&1 & echo {last} pid")
        desk.line.write_text(f"locked 0 0 {os.getppid()}\n")
        terminal.run("true")
        assert f"{terminal.run(f'echo {last} ')} pid" in background
        terminal.run(f"kill {last} ")


@by_name(PROMPTING)
def test_leases_of_a_directory_end_when_direnv_unloads_it(desk: Desk, shell: Shell) -> None:
    desk.listen(state="unlocked 0 0")
    far = int(time.time()) + 3600
    export, unset = (
        ("set -gx {} '{}'", "set -e {}") if shell is FISH else ("export {}='{}'", "unset {}")
    )
    with open_shell(desk, shell, source(shell) + "\n") as terminal:
        terminal.run(export.format("SECRET_AGENT_LEASES", f"{far} l-one l-two"))
        terminal.run(export.format("SECRET_AGENT_LEASES", f"{far} l-three"))
        terminal.run(unset.format("SECRET_AGENT_LEASES"))
        terminal.run("true")
        terminal.send("exit\r")
        terminal.wait()
    revoked = sorted(call for call in desk.calls() if call.startswith("revoke"))
    assert revoked == ["revoke l-one l-two", "revoke l-three"]


@by_name(PROMPTING)
def test_leases_of_an_outer_shell_are_left_alone(desk: Desk, shell: Shell) -> None:
    desk.listen(state="unlocked 0 0")
    unset = "set -e SECRET_AGENT_LEASES" if shell is FISH else "unset SECRET_AGENT_LEASES"
    done = desk.run(
        shell,
        f"{source(shell)}; __secret_agent_at_prompt; {unset}; __secret_agent_at_prompt",
        SECRET_AGENT_LEASES="9999999999 l-outer",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [call for call in desk.calls() if call.startswith("revoke")] == []


_LOADS_ANEW = {
    # before the prompt, the agent's state, seconds until the lease ends
    "locked": ("", "locked 0 0", 3600),
    "expired": ("", "unlocked 0 0", -1),
    "opened": ("locked", "unlocked 0 0", 3600),
}


@by_name(PROMPTING)
@pytest.mark.parametrize("why", _LOADS_ANEW)
def test_direnv_loads_a_directory_anew_when_its_leases_are_over_or_the_session_opens(
    desk: Desk, shell: Shell, why: str
) -> None:
    before, state, left_s = _LOADS_ANEW[why]
    desk.listen(state=state)
    done = desk.run(
        shell,
        _with_direnv(shell, before),
        SECRET_AGENT_LEASES=f"{int(time.time()) + left_s} l-one",
        DIRENV_WATCHES="watches",
        DIRENV_DIR="/somewhere",
    )
    assert (done.stdout, done.stderr) == ("direnv []\n", "")


@by_name(PROMPTING)
@pytest.mark.parametrize("leases", ["", "{far} l-one", "$(touch pwned) l-one", "1 ;touch;pwned"])
def test_direnv_is_left_alone_while_nothing_is_over(desk: Desk, shell: Shell, leases: str) -> None:
    desk.listen(state="unlocked 0 0")
    done = desk.run(
        shell,
        _with_direnv(shell, "unlocked"),
        SECRET_AGENT_LEASES=leases.format(far=int(time.time()) + 3600),
        DIRENV_DIR="/somewhere",
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert not (desk.folder / "pwned").exists()


def _with_direnv(shell: Shell, segment: str) -> str:
    """A prompt in a shell where direnv's hook tells that it ran, and which watches it found."""
    if shell is FISH:
        hook = 'function __direnv_export_eval; echo "direnv [$DIRENV_WATCHES]"; end'
        return (
            f"{hook}; {source(shell)}; set -g __secret_agent_segment '{segment}';"
            " __secret_agent_at_prompt"
        )
    hook = '_direnv_hook() { echo "direnv [${DIRENV_WATCHES-}]"; }'
    return f"{hook}; {source(shell)}; __secret_agent_segment={segment}; __secret_agent_at_prompt"


@pytest.mark.slow
@by_name(ALL)
def test_the_hook_adds_less_than_five_milliseconds_to_a_shells_start(
    desk: Desk, shell: Shell
) -> None:
    """Of processor time, so that other programs on the machine do not count."""
    desk.listen(state="unlocked 0 0")
    pairs = [(_seconds(desk, shell, source(shell)), _seconds(desk, shell, ":")) for _ in range(15)]
    with_hook, without = (min(times) for times in zip(*pairs, strict=True))
    assert with_hook - without < 0.005


def _seconds(desk: Desk, shell: Shell, script: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    desk.run(shell, script)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


_EXITS = {
    # how the shell ends -> whether its own exit hook runs; None: as a rule, and never at odds
    "exit": True,
    "window-closed": None,
    "SIGHUP": None,
    "SIGKILL": False,
    "exec": False,
}


@by_name(PROMPTING)
@pytest.mark.parametrize("how", _EXITS)
def test_the_exit_hook_says_goodbye_where_a_shell_runs_it(
    desk: Desk, shell: Shell, how: str
) -> None:
    """The table in shell/README.md: the rest is seen by the kernel alone."""
    desk.listen(state="unlocked 0 0")
    with open_shell(desk, shell, source(shell) + "\n") as terminal:
        terminal.run("true")
        desk.await_calls(1)
        match how:
            case "exit" | "exec":
                terminal.send({"exit": "exit\r", "exec": "exec true\r"}[how])
            case "window-closed":
                terminal.hang_up()
            case _:
                os.kill(terminal.pid, getattr(signal, how))
        terminal.wait()
    calls = desk.calls()
    assert set(calls) <= {"register --pid", "unregister --pid"}
    assert _EXITS[how] in {None, "unregister --pid" in calls}
