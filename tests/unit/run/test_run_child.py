"""The command is found as a shell finds it, and inherits what its command line names."""

import os
from pathlib import Path

import pytest

from secret_agent_client.child import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    Command,
    CommandError,
    close_all_but,
    declared_in,
    exec_error,
    find_program,
    load_prctl,
)


def script(folder: Path, name: str, mode: int = 0o755) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


class TestFind:
    def test_the_first_on_the_path_wins(self, tmp_path: Path) -> None:
        first, second = script(tmp_path / "a", "x"), script(tmp_path / "b", "x")
        assert find_program("x", f"{first.parent}:{second.parent}") == str(first)

    def test_one_that_cannot_be_run_is_passed_over(self, tmp_path: Path) -> None:
        script(tmp_path / "a", "x", 0o644)
        second = script(tmp_path / "b", "x")
        assert find_program("x", f"{tmp_path / 'a'}:{second.parent}") == str(second)

    def test_if_it_is_the_only_one_that_is_said(self, tmp_path: Path) -> None:
        script(tmp_path / "a", "x", 0o644)
        with pytest.raises(CommandError, match="x cannot be executed") as caught:
            find_program("x", f"{tmp_path / 'none'}:{tmp_path / 'a'}")
        assert caught.value.exit_status == NOT_EXECUTABLE

    def test_a_folder_is_no_program(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError) as caught:
            find_program(tmp_path.name, str(tmp_path.parent))
        assert caught.value.exit_status == NOT_EXECUTABLE

    def test_a_name_with_a_slash_is_not_looked_for(self, tmp_path: Path) -> None:
        path = script(tmp_path, "x")
        assert find_program(str(path), "/nowhere") == str(path)
        with pytest.raises(CommandError) as caught:
            find_program(f"{path}-not", str(tmp_path))
        assert caught.value.exit_status == NOT_FOUND

    def test_an_empty_entry_is_where_we_are(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script(tmp_path, "x")
        monkeypatch.chdir(tmp_path)
        assert find_program("x", "/nowhere:") == "x"

    def test_without_a_path_there_is_the_usual_one(self) -> None:
        assert find_program("sh", None).endswith("/sh")

    @pytest.mark.parametrize("name", ["", "no-such-thing-anywhere"])
    def test_what_is_not_there_is_not_found(self, name: str) -> None:
        with pytest.raises(CommandError, match="was not found") as caught:
            find_program(name, "/usr/bin:/bin")
        assert caught.value.exit_status == NOT_FOUND


@pytest.mark.parametrize(
    ("number", "status"),
    [(2, NOT_FOUND), (20, NOT_FOUND), (8, NOT_EXECUTABLE), (13, 126), (7, 126)],
)
def test_an_exec_that_fails_has_a_shells_status(number: int, status: int) -> None:
    assert exec_error(number).exit_status == status


class TestDeclared:
    def test_what_the_arguments_name_and_a_shell_opened_is_inherited(self, tmp_path: Path) -> None:
        descriptor = os.open(tmp_path, os.O_RDONLY)
        os.set_inheritable(descriptor, True)
        assert declared_in(("diff", f"/dev/fd/{descriptor}", "--x=/proc/self/fd/0")) == (
            descriptor,
        )
        assert declared_in(("cmd", f"--from=/dev/fd/{descriptor}:x")) == (descriptor,)
        os.set_inheritable(descriptor, False)
        assert declared_in(("diff", f"/dev/fd/{descriptor}")) == ()
        os.close(descriptor)
        assert declared_in(("diff", f"/dev/fd/{descriptor}")) == ()

    @pytest.mark.parametrize(
        "argument", ["/dev/fd/", "/dev/fd/x", "/dev/fd/1", "/dev/fd/99999999999", "fd/7", ""]
    )
    def test_everything_else_names_nothing(self, argument: str) -> None:
        assert declared_in(("cmd", argument)) == ()


def test_a_command_does_not_show_its_environment() -> None:
    command = Command("/bin/true", ("true",), {b"TOKEN": b"hunter2"})
    assert "hunter2" not in repr(command)


def test_prctl_is_there() -> None:
    assert load_prctl() is not None


def test_all_descriptors_but_those_kept_are_closed() -> None:
    """In a child: closing everything would close pytest's."""
    pid = os.fork()
    if pid == 0:
        try:
            one, two = os.dup(0), os.dup(0)
            close_all_but([0, two], first=0)
            os.fstat(0)
            os.fstat(two)
            for number in (1, 2, one):
                try:
                    os.fstat(number)
                except OSError:
                    continue
                os._exit(1)
            os._exit(0)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
