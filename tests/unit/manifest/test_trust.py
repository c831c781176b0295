"""Trust is in the very bytes at the very path, kept where no repository can write (T42)."""

import fcntl
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from secret_agent_client.errors import DeniedError, InvalidError, UnavailableError
from secret_agent_client.trust import Trust, changes


def _trust(tmp_path: Path) -> Trust:
    return Trust(str(tmp_path / "state"))


def test_only_the_same_bytes_at_the_same_path_are_trusted(tmp_path: Path) -> None:
    trust = _trust(tmp_path)
    trust.add("/repo/secrets.toml", b"a")
    trust.require("/repo/secrets.toml", b"a")
    for path, data in (("/repo/secrets.toml", b"b"), ("/other/secrets.toml", b"a")):
        with pytest.raises(DeniedError) as caught:
            trust.require(path, data)
        assert caught.value.remedy == f"secret-agent trust {path}"


def test_what_was_trusted_is_kept_word_for_word(tmp_path: Path) -> None:
    trust = _trust(tmp_path)
    trust.add("/repo/secrets.toml", "version = 1 # ü\n".encode())
    known = trust.lookup("/repo/secrets.toml")
    assert known is not None
    assert known.text == "version = 1 # ü\n"
    assert known.at.endswith("Z")


def test_untrust_ends_it_and_says_whether_there_was_anything(tmp_path: Path) -> None:
    trust = _trust(tmp_path)
    trust.add("/repo/secrets.toml", b"a")
    assert trust.remove("/repo/secrets.toml") is True
    assert trust.remove("/repo/secrets.toml") is False
    with pytest.raises(DeniedError, match="not been trusted"):
        trust.require("/repo/secrets.toml", b"a")


def test_the_record_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        _trust(tmp_path).add("/a", b"a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / "trust.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b'{"version": 2, "trusted": {}}',
        b'{"version": 1, "trusted": []}',
        b'{"version": 1, "trusted": {"/a": {}}}',
        b'{"version": 1, "trusted": {"/a": {"sha256": 1, "at": "", "text": ""}}}',
    ],
)
def test_a_broken_record_is_an_error_and_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    trust = _trust(tmp_path)
    trust.add("/a", b"a")
    path = tmp_path / "state" / "trust.json"
    path.write_bytes(content)
    with pytest.raises(InvalidError, match="not what this program wrote"):
        trust.lookup("/a")
    with pytest.raises(InvalidError, match="not what this program wrote"):
        trust.add("/b", b"b")
    assert path.read_bytes() == content


def test_a_record_that_others_could_read_or_that_is_a_link_is_refused(tmp_path: Path) -> None:
    trust = _trust(tmp_path)
    trust.add("/a", b"a")
    path = tmp_path / "state" / "trust.json"
    path.chmod(0o644)
    with pytest.raises(InvalidError, match="open to others") as caught:
        trust.lookup("/a")
    assert caught.value.remedy == f"chmod 600 {path}"
    path.chmod(0o600)
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    with pytest.raises(InvalidError, match="symbolic link"):
        trust.lookup("/a")


def test_two_shells_lose_neither_change(tmp_path: Path) -> None:
    def add(name: str) -> None:
        for number in range(10):
            _trust(tmp_path).add(f"/{name}{number}", b"a")

    threads = [threading.Thread(target=add, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = json.loads((tmp_path / "state" / "trust.json").read_text())
    assert len(record["trusted"]) == 20


def test_a_folder_that_the_agent_has_locked_is_no_obstacle_and_a_stopped_shell_no_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = _trust(tmp_path)
    trust.add("/a", b"a")
    folder = os.open(tmp_path / "state", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    trust.add("/b", b"b")
    os.close(folder)
    monkeypatch.setattr("secret_agent_client.trust.LOCK_S", 0.05)
    with (tmp_path / "state" / "trust.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UnavailableError, match="too long"):
            trust.add("/c", b"c")
    trust.add("/c", b"c")


def test_a_change_is_shown_as_one_and_only_lf_ends_a_line() -> None:
    shown = changes("a\nb\u2028c\nd\n", "a\nb\u2028X\nd\n")
    assert shown == [
        "--- trusted",
        "+++ now",
        "@@ -1,4 +1,4 @@",
        " a",
        "-b\u2028c",
        "+b\u2028X",
        " d",
        " ",
    ]
