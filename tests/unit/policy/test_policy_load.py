"""The file in force is a safe one; a broken one never widens what holds."""

import os
from pathlib import Path

import pytest

from secret_agent.policy.built_in import BUILT_IN, NOTHING
from secret_agent.policy.load import PolicySource, load_policy
from secret_agent_client.errors import InvalidError

GOOD = 'version = 1\n[[rule]]\nid = "mine"\neffect = "allow"\nsecrets = ["**"]\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(GOOD)
    path.chmod(0o600)
    return path


def test_without_a_file_the_built_in_policy_holds(tmp_path: Path) -> None:
    source = PolicySource(tmp_path / "policy.toml")
    assert source.current() is BUILT_IN
    assert source.problem is None


def test_a_change_holds_from_the_next_decision_on(file: Path) -> None:
    source = PolicySource(file)
    assert source.current().rules[0].id == "mine"
    assert source.current() is source.current()
    file.write_text(GOOD.replace("mine", "other-id"))
    assert source.current().rules[0].id == "other-id"
    file.unlink()
    assert source.current() is BUILT_IN


def test_a_broken_change_is_told_and_the_last_good_one_stays(file: Path) -> None:
    source = PolicySource(file)
    before = source.current()
    file.write_text("version = ")
    assert source.current() is before
    assert source.problem is not None
    file.write_text(GOOD)
    assert source.current().digest == before.digest
    assert source.problem is None


def test_an_empty_file_gives_no_secret_to_anybody(file: Path) -> None:
    """Abuse case 20: it is there, and it allows nothing."""
    source = PolicySource(file)
    source.current()
    file.write_text("# all taken back\n")
    assert source.current().rules == NOTHING.rules
    assert source.problem is None


def test_a_file_that_cannot_be_looked_at_is_not_one_that_is_missing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_args: object, **_more: object) -> None:
        raise PermissionError(13, "Permission denied")

    source = PolicySource(file)
    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", refused)
        patch.setattr(os, "open", refused)
        assert source.current() is NOTHING
        assert source.problem == f"{file} cannot be read: Permission denied"
    assert source.current().rules[0].id == "mine"


def test_a_folder_that_others_can_write_is_refused_with_the_mend(file: Path) -> None:
    """CVE-2022-24765: settings from where anybody may put them."""
    file.parent.chmod(0o777)
    with pytest.raises(InvalidError, match="written by others") as caught:
        load_policy(file)
    assert caught.value.remedy == f"chmod go-w {file.parent}"


def test_a_file_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(file, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(InvalidError, match="of ours") as caught:
        load_policy(file)
    assert caught.value.remedy is not None


def test_a_disk_that_fails_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_args: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdopen", failing)
    with pytest.raises(InvalidError, match="cannot be read: Input/output error"):
        load_policy(file)


def test_a_file_that_was_broken_from_the_start_gives_no_secret_to_anybody(file: Path) -> None:
    file.write_text("version = ")
    assert PolicySource(file).current() is NOTHING


def test_what_others_can_write_is_refused_with_the_mend(file: Path) -> None:
    file.chmod(0o620)
    with pytest.raises(InvalidError, match="written by others") as caught:
        load_policy(file)
    assert caught.value.remedy == f"chmod go-w {file}"


def test_links_fifos_and_folders_are_refused(tmp_path: Path, file: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("link", "fifo", "."):
        with pytest.raises(InvalidError):
            load_policy(tmp_path / name)


def test_its_size_is_bounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secret_agent.policy.load.MAX_POLICY", 10)
    with pytest.raises(InvalidError, match="more than 10 bytes"):
        load_policy(file)
