"""Where things are: the layouts, and what is refused with which mend (abuse 46, T13)."""

import os
import socket
import stat
from pathlib import Path

import platformdirs
import pytest

from secret_agent_client.errors import InvalidError, NoAgentError, UnavailableError
from secret_agent_client.paths import (
    MAX_SOCKET_PATH,
    check_private_dir,
    check_private_file,
    check_private_socket,
    check_runtime_base,
    check_socket_path,
    default_paths,
    find_socket,
    make_private_dir,
    socket_path,
)


def test_one_folder_holds_everything() -> None:
    paths = default_paths({"SECRET_AGENT_HOME": "/srv/x/", "XDG_RUNTIME_DIR": "/run/user/1"})
    assert paths.socket == "/srv/x/agent.sock"
    assert (paths.store, paths.audit) == ("/srv/x/store.db", "/srv/x/audit.jsonl")
    assert paths.config_file == "/srv/x/config/config.toml"
    assert paths.policy_file == "/srv/x/config/policy.toml"
    assert paths.types == "/srv/x/config/types"


XDG = {
    "none set": {},
    "all set": {
        "XDG_CONFIG_HOME": "/x/config",
        "XDG_DATA_HOME": "/x/data",
        "XDG_STATE_HOME": "/x/state",
    },
    "relative, so ignored": {"XDG_CONFIG_HOME": "config", "XDG_STATE_HOME": "./state"},
    "empty": {"XDG_DATA_HOME": ""},
}


@pytest.mark.parametrize("environ", XDG.values(), ids=XDG)
def test_the_places_are_those_of_platformdirs(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONFIG_HOME", "DATA_HOME", "STATE_HOME", "RUNTIME_DIR"):
        monkeypatch.delenv(f"XDG_{name}", raising=False)
    monkeypatch.delenv("SECRET_AGENT_HOME", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    paths = default_paths(os.environ)
    assert paths.config == platformdirs.user_config_dir("secret-agent")
    assert paths.data == platformdirs.user_data_dir("secret-agent")
    assert paths.state == platformdirs.user_state_dir("secret-agent")


def test_the_runtime_folder_is_that_of_platformdirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("SECRET_AGENT_HOME", raising=False)
    assert default_paths(os.environ).runtime == f"{tmp_path}/secret-agent"


def test_without_a_runtime_folder_the_socket_is_in_run_user_or_the_state_folder() -> None:
    """Su, sudo and runuser leave XDG_RUNTIME_DIR unset; /tmp is never the answer."""
    found = default_paths({"HOME": "/home-of-nobody"}).runtime
    base = Path(f"/run/user/{os.geteuid()}")
    if base.is_dir() and base.stat().st_uid == os.geteuid():
        assert found == f"{base}/secret-agent"
    else:
        assert found == "/home-of-nobody/.local/state/secret-agent/run"


def test_an_explicit_socket_comes_before_the_well_known_one() -> None:
    environ = {"SECRET_AGENT_SOCK": "/run/s.sock", "SECRET_AGENT_HOME": "/h"}
    assert socket_path(environ) == "/run/s.sock"
    assert socket_path({**environ, "SECRET_AGENT_SOCK": ""}) == "/h/agent.sock"


@pytest.mark.parametrize("path", ["agent.sock", "@abstract", "\0abstract", "./x", "/a\0b"])
def test_a_path_that_is_abstract_relative_or_torn_is_refused(path: str) -> None:
    with pytest.raises(InvalidError, match="SECRET_AGENT_SOCK") as raised:
        socket_path({"SECRET_AGENT_SOCK": path})
    assert raised.value.remedy == "unset SECRET_AGENT_SOCK"


def test_a_path_that_is_too_long_is_an_error_and_leads_nowhere_else() -> None:
    assert check_socket_path("/" + "x" * (MAX_SOCKET_PATH - 1))
    with pytest.raises(InvalidError, match=r"108 bytes; the most is 107") as raised:
        socket_path({"XDG_RUNTIME_DIR": "/" + "x" * (107 - len("/secret-agent/agent.sock"))})
    assert raised.value.remedy is not None
    assert "SECRET_AGENT_HOME" in raised.value.remedy


def test_a_path_is_measured_in_bytes() -> None:
    with pytest.raises(InvalidError, match="bytes"):
        check_socket_path("/" + "ü" * 60)


@pytest.mark.parametrize("home", ["relative", "./x", "/a\0b"])
def test_a_home_that_is_no_absolute_path_is_refused(home: str) -> None:
    with pytest.raises(InvalidError, match="SECRET_AGENT_HOME"):
        default_paths({"SECRET_AGENT_HOME": home})


def test_a_private_directory_passes(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    check_private_dir(str(tmp_path))
    (tmp_path / "file").touch(0o600)
    check_private_file(str(tmp_path / "file"))


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o750, 0o755, 0o777])
def test_a_wider_directory_is_refused_with_its_mend(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "it's mine"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(InvalidError, match="wider than 0700") as raised:
        check_private_dir(str(folder))
    assert raised.value.remedy == "chmod 0700 '" + str(folder).replace("'", "'\\''") + "'"
    assert stat.S_IMODE(folder.stat().st_mode) == mode, "nothing is mended silently"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o666, 0o601])
def test_a_wider_file_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "store.db"
    file.touch()
    file.chmod(mode)
    with pytest.raises(InvalidError, match="wider than 0600"):
        check_private_file(str(file))


def test_a_link_is_refused_whatever_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name, check in (
        ("link", check_private_dir),
        ("dangling", check_private_file),
        ("dangling", check_private_socket),
    ):
        with pytest.raises(InvalidError, match="symbolic link") as raised:
            check(str(tmp_path / name))
        assert raised.value.remedy == f"rm {tmp_path / name}"


def test_a_thing_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o600)
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(InvalidError, match="is not a directory"):
        check_private_dir(str(tmp_path / "file"))
    with pytest.raises(InvalidError, match="is not a file"):
        check_private_file(str(tmp_path / "fifo"))
    with pytest.raises(InvalidError, match="is not a socket"):
        check_private_socket(str(tmp_path / "fifo"))


@pytest.mark.root
def test_a_thing_of_another_owner_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir(0o700)
    os.chown(folder, 4242, -1)
    with pytest.raises(InvalidError, match="belongs to another user"):
        check_private_dir(str(folder))


def test_what_is_missing_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check_private_dir(str(tmp_path / "none"))


def test_a_runtime_base_that_others_could_write_to_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "run"
    base.mkdir()
    base.chmod(0o777)
    with pytest.raises(InvalidError, match="written by others") as raised:
        check_runtime_base({"XDG_RUNTIME_DIR": str(base)})
    assert raised.value.remedy == f"chmod 0700 {base}"
    base.chmod(0o700)
    check_runtime_base({"XDG_RUNTIME_DIR": str(base)})


def test_a_runtime_base_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path)
    with pytest.raises(InvalidError, match="symbolic link") as raised:
        check_runtime_base({"XDG_RUNTIME_DIR": str(tmp_path / "run")})
    assert raised.value.remedy == "unset XDG_RUNTIME_DIR"


def test_a_runtime_base_that_is_not_used_is_not_looked_at(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    check_runtime_base({"XDG_RUNTIME_DIR": str(tmp_path), "SECRET_AGENT_HOME": "/h"})
    check_runtime_base({"XDG_RUNTIME_DIR": str(tmp_path / "missing")})


@pytest.mark.root
def test_a_runtime_base_of_another_owner_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 4242, -1)
    with pytest.raises(InvalidError, match="belongs to another user"):
        check_runtime_base({"XDG_RUNTIME_DIR": str(tmp_path)})


def test_folders_are_made_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_dir(str(tmp_path / "a" / "b"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="not a directory"):
        make_private_dir(str(tmp_path / "file" / "x"))


def test_a_wider_folder_that_was_there_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x").chmod(0o755)
    with pytest.raises(InvalidError, match="wider"):
        make_private_dir(str(tmp_path / "x"))


def test_the_well_known_socket_is_looked_at_before_it_is_dialled(folder: Path) -> None:
    environ = {"SECRET_AGENT_HOME": str(folder)}
    with pytest.raises(NoAgentError, match="no agent is running"):
        find_socket(environ)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "agent.sock"))
        (folder / "agent.sock").chmod(0o666)
        with pytest.raises(InvalidError, match="wider than 0600"):
            find_socket(environ)
        (folder / "agent.sock").chmod(0o600)
        assert find_socket(environ) == (f"{folder}/agent.sock", False)
        folder.chmod(0o755)
        with pytest.raises(InvalidError, match="wider than 0700"):
            find_socket(environ)


def test_a_socket_that_was_named_is_known_to_be_named() -> None:
    assert find_socket({"SECRET_AGENT_SOCK": "/x/s"}) == ("/x/s", True)
    assert find_socket({"SECRET_AGENT_SOCK": "/x/s"}, "/y/s") == ("/y/s", True)
