"""config.toml is read strictly: what is unknown or does not fit is named."""

from pathlib import Path

import pytest

from secret_agent import config
from secret_agent.config import Settings, load_settings, parse_settings
from secret_agent_client.errors import InvalidError


def test_no_file_means_the_defaults(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "config.toml") == Settings()


def test_every_key_is_read(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        '[session]\nlifetime = "8h"\nidle = "30m"\non_last_shell = "keep"\n'
        '[leases]\nttl = 90\n[audit]\nsync = "none"\nmax_file = 2\n'
    )
    assert load_settings(file) == Settings(8 * 3600, 1800, "keep", 90, "none", 2 * 1024 * 1024)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[session\n", "is not TOML"),
        ("\udcff", "is not TOML"),
        ("[sesion]\n", r"no table \[sesion\]"),
        ("session = 1\n", r"no table \[session\]"),
        ("[session]\nlifetme = 1\n", "has no lifetme"),
        ("[session]\nlifetime = true\n", "lifetime: a duration"),
        ('[session]\nlifetime = "soon"\n', "lifetime: "),
        ("[session]\nlifetime = 0\n", "lifetime: "),
        ('[session]\non_last_shell = "sleep"\n', "one of keep, lock, stop"),
        ("[audit]\nmax_file = 0\n", "max_file: a whole number of MiB"),
        ("[audit]\nmax_file = 1.5\n", "max_file: a whole number of MiB"),
    ],
)
def test_what_does_not_fit_is_named(text: str, says: str) -> None:
    with pytest.raises(InvalidError, match=says):
        parse_settings(text.encode("utf-8", "surrogateescape"), source="config.toml")


def test_a_file_that_cannot_be_read_or_is_huge_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidError, match="cannot be read"):
        load_settings(tmp_path)
    monkeypatch.setattr(config, "MAX_CONFIG", 3)
    (tmp_path / "c.toml").write_text("# long")
    with pytest.raises(InvalidError, match="more than 3 bytes"):
        load_settings(tmp_path / "c.toml")
