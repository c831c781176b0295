"""A manifest may ask for secrets by name; it decides nothing and does nothing (T40, T41)."""

import os
from pathlib import Path

import pytest

from secret_agent_client.errors import DeniedError, InvalidError
from secret_agent_client.manifest import (
    Manifest,
    ManifestFile,
    find_manifest,
    load_manifest,
    parse_manifest,
    read_manifest,
)
from secret_agent_client.trust import Trust

EXAMPLE = """\
version = 1
project = "payments"
[env]
DATABASE_URL = "secret://payments/db#url"
STRIPE_KEY   = { ref = "secret://payments/stripe#key", when = "run", required = true, about = "c" }
[stage.test.env]
STRIPE_KEY   = "secret://sandbox/stripe#key"
TEST_ONLY = { ref = "secret://sandbox/x", required = false }
"""


def _parse(text: str | bytes) -> Manifest:
    data = text if isinstance(text, bytes) else text.encode()
    return parse_manifest(ManifestFile("/repo/secrets.toml", data))


def test_the_documented_example_is_read() -> None:
    manifest = _parse(EXAMPLE)
    assert (manifest.project, manifest.stages) == ("payments", ("test",))
    base = manifest.entries()
    assert {name: str(entry.ref) for name, entry in base.items()} == {
        "DATABASE_URL": "secret://payments/db#url",
        "STRIPE_KEY": "secret://payments/stripe#key",
    }
    assert (base["STRIPE_KEY"].when, base["STRIPE_KEY"].about) == ("run", "c")
    assert (base["DATABASE_URL"].when, base["DATABASE_URL"].required) == ("always", True)


def test_a_stage_goes_over_the_base_and_an_unknown_one_changes_nothing() -> None:
    manifest = _parse(EXAMPLE)
    staged = manifest.entries("test")
    assert str(staged["STRIPE_KEY"].ref) == "secret://sandbox/stripe#key"
    assert staged["TEST_ONLY"].required is False
    assert list(staged) == ["DATABASE_URL", "STRIPE_KEY", "TEST_ONLY"]
    assert manifest.entries("prod") == manifest.entries() == manifest.entries(None)


def test_every_name_of_every_stage_is_declared() -> None:
    assert _parse(EXAMPLE).declared_names() == {"DATABASE_URL", "STRIPE_KEY", "TEST_ONLY"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: it must begin with version = 1"),
        ("version = 2", "line 1, column 1: this program reads version 1 alone"),
        ("version = true", "line 1, column 1: this program reads version 1 alone"),
        ("version = 1\nenv = 3", "line 2, column 1: this must be a table"),
        ("version = 1\nstage = 3", "line 2, column 1: this must be a table"),
        ("version = 1\nfoo = 3", "line 2, column 1: unknown key"),
        ("version = 1\nproject = 3", "line 2, column 1: a text must be a string"),
        ("version = 1\n[env]\n  A-B = 'secret://a'", "line 3, column 3: a name must be letters"),
        ("version = 1\n[env]\n'BASH_FUNC_x%%' = 'secret://a'", "line 3, column 1: a name must be"),
        ("version = 1\n[env]\n'A=B' = 'secret://a'", "a name must be"),
        ("version = 1\n[env]\n'x y' = 'secret://a'", "line 3, column 1: a name must be"),
        ("version = 1\n[env]\nA = 'canary'", "line 3, column 1: a manifest holds references"),
        ("version = 1\n[env]\nA = 5", "line 3, column 1: this must be a table"),
        ("version = 1\n[env]\nA = {about = 'x'}", "line 3, column 1: a manifest holds references"),
        ("version = 1\n[env]\nA = 'secret://B'", "line 3, column 1: 'B' at position 0"),
        ("version = 1\nenv.A = {ref='secret://a', x=1}", "line 2, column 28: unknown key"),
        ("version = 1\n[env]\nA = {ref='secret://a', when='x'}", "line 3, column 1: when must be"),
        ("version = 1\n[env]\nA = {ref='secret://a', required=1}", "required must be true or"),
        ("version = 1\n[env]\nA = {ref='secret://a', about=1}", "a text must be a string"),
        ("version = 1\n[stage.Prod.env]", "line 2, column 1: 'P' at position 0"),
        ("version = 1\n[stage.x]\nfoo = 1", "line 3, column 1: unknown key"),
        ("version = 1\n[env]\nA = 1\nA = 2\n", "line 4, column 6: this is not TOML"),
        ("version = 1\nA = 'canary", "this is not TOML"),
        (b"version = 1\nA = '\xff'", "not UTF-8 at byte 17"),
    ],
)
def test_what_is_wrong_is_named_by_line_and_column_and_no_value_is_shown(
    text: str | bytes, message: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        _parse(text)
    assert message in caught.value.message
    assert "canary" not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "[policy]\nallow = ['*']",
        "trusted_paths = ['/']",
        "yes = true",
        "ci = true",
        "[[rule]]\neffect = 'allow'",
        "[providers.x]\ncommand = 'id'",
        "include = ['other.toml']",
        "[stage.x]\ncommand = 'id'",
        "[env]\nA = { ref = 'secret://a', command = 'id' }",
    ],
)
def test_a_key_that_decides_about_security_is_an_error_of_its_own(text: str) -> None:
    with pytest.raises(InvalidError, match="this key decides about security"):
        _parse("version = 1\n" + text)


def test_more_names_than_an_environment_holds_are_refused() -> None:
    names = "\n".join(f"A{n} = 'secret://a'" for n in range(1025))
    with pytest.raises(InvalidError, match="more than 1024 names"):
        _parse("version = 1\n[env]\n" + names)


def _repository(tmp_path: Path) -> Path:
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    (tmp_path / "repo" / "a" / "b").mkdir(parents=True)
    return tmp_path / "repo"


def test_the_nearest_manifest_upward_is_found_and_never_one_above_the_repository(
    tmp_path: Path,
) -> None:
    repo = _repository(tmp_path)
    (tmp_path / "secrets.toml").write_text(EXAMPLE)
    assert find_manifest(str(repo / "a" / "b")) is None
    (repo / "secrets.toml").write_text(EXAMPLE)
    assert find_manifest(str(repo / "a" / "b")) == str(repo / "secrets.toml")
    (repo / "a" / "secrets.toml").write_text(EXAMPLE)
    assert find_manifest(str(repo / "a" / "b")) == str(repo / "a" / "secrets.toml")


def test_the_search_ends_at_home_and_before_a_directory_that_everybody_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "home" / "x"
    inner.mkdir(parents=True)
    (tmp_path / "secrets.toml").write_text(EXAMPLE)
    assert find_manifest(str(inner)) == str(tmp_path / "secrets.toml")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert find_manifest(str(inner)) is None
    monkeypatch.setenv("HOME", "/nowhere")
    tmp_path.chmod(0o1777)
    assert find_manifest(str(inner)) is None


def test_a_manifest_that_others_could_have_written_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "secrets.toml"
    path.write_text(EXAMPLE)
    path.chmod(0o646)
    with pytest.raises(DeniedError, match="writable by everybody") as caught:
        read_manifest(str(path))
    assert caught.value.remedy == f"chmod o-w {path}"
    path.chmod(0o644)
    tmp_path.chmod(0o757)
    with pytest.raises(DeniedError, match="the directory of secrets") as caught:
        read_manifest(str(path))
    assert caught.value.remedy == f"chmod o-w {tmp_path}"
    tmp_path.chmod(0o700)
    assert read_manifest(str(path)).data == EXAMPLE.encode()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_manifest_of_another_user_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "secrets.toml"
    path.write_text(EXAMPLE)
    os.chown(path, 12345, -1)
    with pytest.raises(DeniedError, match="belongs to another user"):
        read_manifest(str(path))


def test_what_is_no_regular_file_does_not_make_us_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "secrets.toml")
    with pytest.raises(InvalidError, match="not a regular file"):
        read_manifest(str(tmp_path / "secrets.toml"))
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(InvalidError, match="cannot be read"):
        read_manifest(str(loop))


def test_an_untrusted_manifest_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    repo = _repository(tmp_path)
    path = repo / "secrets.toml"
    path.write_text("this is no TOML")
    trust = Trust(str(tmp_path / "state"))
    with pytest.raises(DeniedError, match="has not been trusted yet") as caught:
        load_manifest(str(repo / "a"), trust)
    assert caught.value.remedy == f"secret-agent trust {path}"


def test_a_trusted_manifest_is_loaded_and_any_other_byte_asks_again(tmp_path: Path) -> None:
    repo = _repository(tmp_path)
    path = repo / "secrets.toml"
    path.write_text(EXAMPLE)
    trust = Trust(str(tmp_path / "state"))
    trust.add(str(path), path.read_bytes())
    loaded = load_manifest(str(repo / "a"), trust)
    assert loaded is not None
    assert (loaded.path, loaded.project) == (str(path), "payments")
    path.write_text(EXAMPLE + " ")
    with pytest.raises(DeniedError, match="has changed since it was trusted"):
        load_manifest(str(repo / "a"), trust)


def test_a_link_that_leads_to_trusted_content_elsewhere_asks_again(tmp_path: Path) -> None:
    repo = _repository(tmp_path)
    trust = Trust(str(tmp_path / "state"))
    one, two = repo / "one.toml", repo / "two.toml"
    for path in (one, two):
        path.write_text(EXAMPLE)
    (repo / "secrets.toml").symlink_to(one)
    trust.add(str(one), one.read_bytes())
    assert load_manifest(str(repo), trust) is not None
    (repo / "secrets.toml").unlink()
    (repo / "secrets.toml").symlink_to(two)
    with pytest.raises(DeniedError, match="has not been trusted yet"):
        load_manifest(str(repo), trust)


def test_without_a_manifest_there_is_none(tmp_path: Path) -> None:
    assert load_manifest(str(_repository(tmp_path)), Trust(str(tmp_path / "state"))) is None
    assert not (tmp_path / "state").exists()
