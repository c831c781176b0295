"""Which shell a process belongs to, decided on lines made by hand."""

import pytest

from secret_agent.holder.proc import Layout
from secret_agent.holder.shells import Member, Shell, find_shell, shell_name
from secret_agent.model import ProcessKey

OUTER: Layout = (b"1", b"2", b"3", b"4", b"5")
INNER: Layout = (b"6", b"7", b"8", b"9", b"10")
OTHER: Layout = (b"11", b"12", b"13", b"14", b"15")


def member(
    pid: int,
    exe: str,
    *,
    layout: Layout | None = OTHER,
    uid: int = 1000,
    name: str = "",
    arguments: tuple[str, ...] = (),
) -> Member:
    return Member(ProcessKey(pid, pid), exe, name or exe.rpartition("/")[2], arguments, uid, layout)


@pytest.mark.parametrize(
    ("exe", "name"),
    [
        ("/usr/bin/bash", "bash"),
        ("/bin/dash", "dash"),
        ("/bin/sh", "sh"),
        ("/usr/bin/fish", "fish"),
        ("/usr/bin/zsh-5.9", "zsh"),
        ("/usr/bin/zsh5", "zsh"),
        ("/bin/bash-static", "bash"),
        ("/usr/bin/ksh93", "ksh93"),
        ("/usr/bin/bash (deleted)", "bash"),
        ("/nix/store/abc-bash-5.2/bin/bash", "bash"),
        ("/usr/bin/python3.11", None),
        ("/usr/bin/bashful", None),
        ("/usr/bin/ssh", None),
        ("/bash/vim", None),
        ("", None),
        ("bash", "bash"),
    ],
)
def test_a_shell_is_known_by_the_name_of_its_executable(exe: str, name: str | None) -> None:
    assert shell_name(exe, "decoration", ()) == name


@pytest.mark.parametrize(
    ("name", "arguments", "shell"),
    [
        ("sh", ("sh",), "sh"),
        ("sh", ("-sh",), "sh"),
        ("ash", ("/bin/ash", "-l"), "ash"),
        ("busybox", ("busybox", "sh", "-c", "x"), "sh"),
        ("busybox", ("/bin/busybox", "ls", "sh"), None),
        ("build.sh", ("/bin/sh", "./build.sh"), "sh"),
        ("vi", ("vi", "sh"), None),
        ("sh", (), "sh"),
        ("busybox", (), None),
        ("busybox", ("busybox",), None),
    ],
)
def test_busybox_is_the_shell_that_it_was_called_as(
    name: str, arguments: tuple[str, ...], shell: str | None
) -> None:
    assert shell_name("/bin/busybox", name, arguments) == shell


def test_the_nearest_shell_is_found() -> None:
    line = (
        member(5, "/usr/bin/python3"),
        member(4, "/usr/bin/make"),
        member(3, "/usr/bin/dash", layout=INNER),
        member(2, "/usr/bin/bash", layout=OUTER),
    )
    assert find_shell(line) == Shell(ProcessKey(3, 3), 2, "dash")


def test_the_process_itself_may_be_the_shell() -> None:
    assert find_shell((member(5, "/usr/bin/zsh"),)) == Shell(ProcessKey(5, 5), 0, "zsh")


def test_a_forked_subshell_is_climbed_to_the_shell_it_was_forked_from() -> None:
    line = (
        member(5, "/usr/bin/python3"),
        member(4, "/usr/bin/bash", layout=INNER),
        member(3, "/usr/bin/bash", layout=INNER),
        member(2, "/usr/bin/bash", layout=INNER),
        member(1, "/usr/bin/bash", layout=OUTER),
    )
    assert find_shell(line) == Shell(ProcessKey(2, 2), 3, "bash")


def test_a_shell_started_inside_a_shell_is_where_the_climb_ends() -> None:
    line = (
        member(5, "/usr/bin/python3"),
        member(4, "/usr/bin/bash", layout=INNER),
        member(3, "/usr/bin/bash", layout=OUTER),
    )
    assert find_shell(line) == Shell(ProcessKey(4, 4), 1, "bash")


def test_where_the_layout_is_hidden_nothing_is_guessed() -> None:
    line = (
        member(5, "/usr/bin/python3"),
        member(4, "/usr/bin/bash", layout=None),
        member(3, "/usr/bin/bash", layout=None),
    )
    assert find_shell(line) == Shell(ProcessKey(4, 4), 1, "bash")


def test_another_users_shell_is_nobodys_shell() -> None:
    """sudo: root's shell in between is passed over, the user's own further up is not."""
    line = (
        member(5, "/usr/bin/python3"),
        member(4, "/usr/bin/bash", uid=0),
        member(3, "/usr/bin/sudo", uid=0),
        member(2, "/usr/bin/zsh"),
    )
    assert find_shell(line) == Shell(ProcessKey(2, 2), 3, "zsh")


def test_the_climb_does_not_pass_to_another_user() -> None:
    line = (
        member(5, "/usr/bin/python3"),
        member(4, "/usr/bin/bash", layout=INNER),
        member(3, "/usr/bin/bash", layout=INNER, uid=0),
    )
    assert find_shell(line) == Shell(ProcessKey(4, 4), 1, "bash")


def test_the_climb_does_not_pass_to_another_program() -> None:
    line = (
        member(5, "/usr/bin/python3"),
        member(4, "/usr/bin/bash", layout=INNER),
        member(3, "/usr/bin/zsh", layout=INNER),
    )
    assert find_shell(line) == Shell(ProcessKey(4, 4), 1, "bash")


@pytest.mark.parametrize("line", [(), (member(5, "/usr/bin/python3"), member(1, ""))])
def test_without_a_shell_there_is_none(line: tuple[Member, ...]) -> None:
    assert find_shell(line) is None
