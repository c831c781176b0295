"""`trust`, `env`, `inject`, `import`, `export` against a real agent."""

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.agent import Agent
from support.real import need
from support.terminal import Terminal

MANIFEST = """\
version = 1
[env]
DB = "secret://m/db"
KEY = { ref = "secret://m/key", when = "run" }
MAYBE = { ref = "secret://m/absent", required = false }
[stage.test.env]
KEY = "secret://m/test-key"
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    (tmp_path / "repo" / "secrets.toml").write_text(MANIFEST)
    return tmp_path / "repo"


def _trusted(agent: Agent, repo: Path) -> None:
    agent.cli("trust", cwd=repo, check=True)


def _report(done: "subprocess.CompletedProcess[bytes]") -> Any:
    return json.loads(done.stdout)


def test_a_manifest_is_not_used_before_it_is_trusted_nor_after_it_changed(
    shared: Agent, repo: Path
) -> None:
    done = shared.cli("env", cwd=repo)
    assert done.returncode == 4
    assert f"try: secret-agent trust {repo}/secrets.toml" in done.stderr.decode()
    _trusted(shared, repo)
    assert shared.cli("env", cwd=repo, check=True).stdout.decode().split() == [
        "DB=secret://m/db",
        "KEY=secret://m/key",
        "MAYBE=secret://m/absent",
    ]
    (repo / "secrets.toml").write_text(MANIFEST.replace("m/db", "m/other"))
    assert shared.cli("env", cwd=repo).returncode == 4
    shown = shared.cli("trust", "--no-input", cwd=repo, check=True)
    assert '-DB = "secret://m/db"' in shown.stderr.decode()
    assert '+DB = "secret://m/other"' in shown.stderr.decode()
    shared.cli("env", cwd=repo, check=True)
    shared.cli("untrust", str(repo), check=True)
    assert shared.cli("env", cwd=repo).returncode == 4
    assert shared.cli("untrust", str(repo)).returncode == 5


def test_trust_shows_hostile_text_escaped_and_asks(unlocked: Agent, repo: Path) -> None:
    (repo / "secrets.toml").write_text(
        MANIFEST + '# \N{RIGHT-TO-LEFT OVERRIDE}hidden\n[stage.x.env]\nA = "secret://a"\n'
    )
    argv = ["python3", "-m", "secret_agent_client", "trust"]
    with Terminal(argv, env=unlocked.environment(), cwd=repo) as terminal:
        terminal.expect(r"# \\u202ehidden")
        terminal.expect(r"\[y/N\] ")
        terminal.send("\r")  # Enter alone is no
        terminal.expect("said no")
    assert unlocked.cli("env", cwd=repo).returncode == 4
    with Terminal(argv, env=unlocked.environment(), cwd=repo) as terminal:
        terminal.expect(r"\[y/N\] ")
        terminal.send("y\r")
        terminal.expect("is trusted as it is now")
    unlocked.cli("env", cwd=repo, check=True)
    (repo / "secrets.toml").write_text(MANIFEST)
    with Terminal([*argv, "--yes"], env=unlocked.environment(), cwd=repo) as terminal:
        terminal.expect("is trusted as it is now")
        assert b"[y/N]" not in terminal.seen


def test_trust_tells_in_json_what_was_trusted(shared: Agent, repo: Path) -> None:
    told = _report(shared.cli("trust", "--json", str(repo), check=True))
    assert told["names"] == ["DB", "KEY", "MAYBE"]
    assert told["path"] == str(repo / "secrets.toml")


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PATH", "BASH_ENV", "GIT_SSH_COMMAND"])
def test_a_name_by_which_programs_find_code_is_refused(
    shared: Agent, repo: Path, name: str
) -> None:
    (repo / "secrets.toml").write_text(f'version = 1\n[env]\n{name} = "secret://a"\n')
    done = shared.cli("trust", cwd=repo)
    assert (done.returncode, name in done.stderr.decode()) == (2, True)


def test_without_a_manifest_env_is_exit_5(shared: Agent, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert shared.cli("env", cwd=tmp_path).returncode == 5


def test_env_tells_in_json_all_that_the_manifest_says(shared: Agent, repo: Path) -> None:
    _trusted(shared, repo)
    told = _report(shared.cli("env", "--json", "--stage", "test", cwd=repo, check=True))
    assert told[1] == {
        "name": "KEY",
        "ref": "secret://m/test-key",
        "when": "always",
        "required": True,
        "about": None,
    }
    assert [each["required"] for each in told] == [True, True, False]


VALUE = b'it\'s "quoted" $HOME `id` \\ \n#; *'


@pytest.mark.parametrize(
    ("shell", "argv"),
    [
        ("posix", ["sh", "-c"]),
        ("bash", ["bash", "-c"]),
        ("zsh", ["zsh", "-c"]),
        ("fish", ["fish", "-c"]),
    ],
)
def test_what_a_shell_evaluates_is_the_value_byte_for_byte(
    shared: Agent, repo: Path, shell: str, argv: list[str]
) -> None:
    need(argv[0])
    _trusted(shared, repo)
    shared.cli("set", "m/db", "--stdin", input=VALUE, check=True)
    shared.put("m/key")
    out = shared.cli(
        "env", "--shell", shell, "--reveal", "--no-input", cwd=repo, check=True, reveals=True
    ).stdout.decode()
    script = f'{out}\nprintf %s "$DB"; printf "%s" "|$KEY|$MAYBE|$SECRET_AGENT_VALUES|"'
    script += '; printf %s "$SECRET_AGENT_LEASES"'
    done = subprocess.run([*argv, script], capture_output=True, check=True, cwd=repo)
    db, key, maybe, values, leases = done.stdout[len(VALUE) :].decode().split("|")
    assert done.stdout.startswith(VALUE)
    assert (db, key, maybe, values) == ("", "", "", "DB")  # KEY is for `run` alone
    until, lease = leases.split()
    assert until.isdigit()
    assert lease.startswith("l-")


def test_references_for_a_shell_take_no_lease(shared: Agent, repo: Path) -> None:
    _trusted(shared, repo)
    before = _report(shared.cli("leases", "--json", check=True))
    out = shared.cli("env", "--shell", "posix", cwd=repo, check=True).stdout.decode()
    assert out.split("\n")[0] == "DB='secret://m/db'; export DB;"
    assert "SECRET_AGENT" not in out
    assert _report(shared.cli("leases", "--json", check=True)) == before


def test_a_required_secret_that_is_missing_fails_and_prints_nothing(
    shared: Agent, repo: Path
) -> None:
    (repo / "secrets.toml").write_text(
        'version = 1\n[env]\nA = "secret://no/such"\nB = "secret://m/there"\nC = "secret://no/too"'
    )
    _trusted(shared, repo)
    shared.put("m/there")
    done = shared.cli("env", "--reveal", cwd=repo)
    assert (done.returncode, done.stdout) == (5, b"")
    assert "secret://no/such, secret://no/too" in done.stderr.decode()


def test_a_template_is_filled_into_a_file_that_only_we_can_read(
    shared: Agent, tmp_path: Path
) -> None:
    value = shared.put("i/db#password")
    template = tmp_path / "in.tpl"
    template.write_text('a: "secret://i/db"\nb: {{ secret://i/db#password | json }}\n')
    out = tmp_path / "out"
    shared.cli("inject", "-i", str(template), "-o", str(out), check=True)
    assert out.read_bytes() == b'a: "%s"\nb: "%s"\n' % (value, value)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    piped = shared.cli("inject", input=template.read_bytes(), check=True, reveals=True)
    assert piped.stdout == out.read_bytes()
    shared.cli("inject", "-i", str(template), "-o", str(out), check=True)  # over our own file


@pytest.mark.parametrize("obstacle", ["symlink", "hardlink", "wide", "directory"])
def test_inject_writes_through_nothing_that_stands_in_the_way(
    shared: Agent, tmp_path: Path, obstacle: str
) -> None:
    shared.put("i/o")
    out, other = tmp_path / "out", tmp_path / "other"
    other.write_bytes(b"kept")
    other.chmod(0o600)
    if obstacle == "symlink":
        out.symlink_to(other)
    elif obstacle == "hardlink":
        out.hardlink_to(other)
    elif obstacle == "wide":
        out.write_bytes(b"kept")
        out.chmod(0o644)
    else:
        out.mkdir()
    done = shared.cli("inject", "-o", str(out), input=b"{{ secret://i/o }}")
    assert done.returncode == 2
    assert b"the file to be written" in done.stderr
    assert other.read_bytes() == b"kept"
    if obstacle == "wide":
        assert b"chmod 0600" in done.stderr


@pytest.mark.parametrize(
    ("template", "status"),
    [
        (b"{{ secret://i/there }}{{ secret://no/such }}", 5),
        (b"{{ secret://i/there }}{{ secret://NO }}", 2),
        (b"{{ secret://i/there }}{{ secret://open", 2),
        (b'"secret://i/quote" {{ secret://i/there }}', 2),
        (b"{{ secret://i/there | eval }}", 2),
    ],
)
def test_when_anything_is_wrong_nothing_is_written_and_no_value_is_shown(
    shared: Agent, tmp_path: Path, template: bytes, status: int
) -> None:
    shared.put("i/there")
    shared.put("i/quote", b'cnry"with-a-quote')
    out = tmp_path / "out"
    done = shared.cli("inject", "-o", str(out), input=template)
    assert (done.returncode, done.stdout) == (status, b"")
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_is_shown_no_filled_template_unless_it_is_asked_for(unlocked: Agent) -> None:
    unlocked.cli("set", "i/t", "--stdin", input=b"shown-if-asked", check=True)
    template = unlocked.path / "t.tpl"
    template.write_text("x={{ secret://i/t }}")
    argv = ["python3", "-m", "secret_agent_client", "inject", "-i", str(template)]
    with Terminal(argv, env=unlocked.environment(), cwd=unlocked.path) as terminal:
        terminal.expect("stdout is a terminal, which would show the values")
        assert b"shown-if-asked" not in terminal.seen
    with Terminal([*argv, "--reveal"], env=unlocked.environment(), cwd=unlocked.path) as terminal:
        terminal.expect("x=shown-if-asked")


def test_an_env_file_is_taken_and_a_manifest_written_that_works_at_once(
    shared: Agent, tmp_path: Path
) -> None:
    (tmp_path / ".git").mkdir()
    value = shared.plant()
    (tmp_path / ".env").write_bytes(b"API_KEY='%s'\nPATH=/x\nbroken\nEMPTY=\n" % value)
    done = shared.cli(
        "import", ".env", "--prefix", "imp", "--write-manifest", "--json", cwd=tmp_path, check=True
    )
    told = _report(done)
    assert told["added"] == ["imp/api_key", "imp/path"]
    assert [each["where"] for each in told["left"]] == ["line 3", "line 4 (EMPTY)", "PATH"]
    assert told["manifest"] == str(tmp_path / "secrets.toml")
    assert stat.S_IMODE((tmp_path / "secrets.toml").stat().st_mode) == 0o644
    env = shared.cli("env", cwd=tmp_path, check=True).stdout
    assert env == b"API_KEY=secret://imp/api_key\n"
    revealed = shared.cli("env", "--reveal", cwd=tmp_path, check=True, reveals=True).stdout
    assert revealed == b"API_KEY=" + value + b"\n"


def test_what_exists_is_left_unless_told_otherwise(shared: Agent, tmp_path: Path) -> None:
    value = shared.put("imp2/a")
    (tmp_path / "x.env").write_text("A=another-value\nB=new-value\n")
    told = _report(shared.cli("import", "x.env", "--prefix", "imp2", "--json", cwd=tmp_path))
    assert (told["added"], told["updated"]) == (["imp2/b"], [])
    assert "is there already" in told["left"][0]["why"]
    assert shared.cli("get", "imp2/a", check=True).stdout == value
    told = _report(
        shared.cli("import", "x.env", "--prefix", "imp2", "--replace", "--json", cwd=tmp_path)
    )
    assert told["updated"] == ["imp2/a", "imp2/b"]


def test_a_dry_run_tells_and_writes_nothing(shared: Agent, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"folder": {"db": {"user": "u"}}}')
    told = _report(shared.cli("import", "x.json", "--dry-run", "--json", cwd=tmp_path, check=True))
    assert told["added"] == ["folder/db"]
    assert shared.cli("describe", "folder/db").returncode == 5


def test_a_manifest_that_is_there_is_not_touched_and_nothing_is_imported(
    shared: Agent, repo: Path
) -> None:
    (repo / ".env").write_text("NEVER=a-value\n")
    done = shared.cli("import", ".env", "--write-manifest", cwd=repo)
    assert done.returncode == 2
    assert (repo / "secrets.toml").read_text() == MANIFEST
    assert shared.cli("describe", "never").returncode == 5


@pytest.mark.slow
def test_a_backup_to_a_passphrase_is_taken_back_by_another_agent(
    unlocked: Agent, tmp_path: Path
) -> None:
    value = unlocked.put("backup/a")
    out = tmp_path / "backup.age"
    done = unlocked.cli_with_passphrase(
        "export", "--encrypted-to", "passphrase", "-o", str(out), "--json", check=True
    )
    assert _report(done)["secrets"] == 1
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert value not in out.read_bytes()
    with Agent() as other:
        other.unlock()
        other.planted.append(value)
        told = _report(
            other.cli_with_passphrase("import", str(out), "--prefix", "old", "--json", check=True)
        )
        assert told["added"] == 1
        assert other.cli("get", "old/backup/a", check=True).stdout == value
        wrong = other.cli_with_passphrase("import", str(out), passphrase=b"not the passphrase")
        assert wrong.returncode == 4


def test_a_backup_to_a_recipient_is_opened_by_age_and_by_us(shared: Agent, tmp_path: Path) -> None:
    need("age")
    key = tmp_path / "key.txt"
    made = subprocess.run(
        ["age-keygen", "-o", str(key)], check=True, capture_output=True, text=True
    )
    recipient = made.stderr.split()[-1]
    value = shared.put("backup/r")
    piped = shared.cli("export", "--encrypted-to", recipient, check=True)
    opened = subprocess.run(
        ["age", "-d", "-i", str(key)], input=piped.stdout, check=True, capture_output=True
    )
    assert opened.stdout
    backup = tmp_path / "b.age"
    backup.write_bytes(piped.stdout)
    key.chmod(0o600)
    shared.cli("import", str(backup), "--identity", str(key), "--prefix", "rb", check=True)
    assert shared.cli("get", "rb/backup/r", check=True).stdout == value
    key.chmod(0o644)
    done = shared.cli("import", str(backup), "--identity", str(key))
    assert (done.returncode, b"open to others" in done.stderr) == (2, True)


def test_a_backup_is_not_written_over_what_stands_in_the_way(shared: Agent, tmp_path: Path) -> None:
    out = tmp_path / "b.age"
    out.symlink_to(tmp_path / "elsewhere")
    done = shared.cli_with_passphrase("export", "--encrypted-to", "passphrase", "-o", str(out))
    assert (done.returncode, os.path.lexists(tmp_path / "elsewhere")) == (2, False)
