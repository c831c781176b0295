"""Assignments hold under every shell's eval; the table of types is the agent's own."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secret_agent.secret_types.schema import TYPES
from secret_agent_client.cli.audit import _text
from secret_agent_client.cli.fetch import _dotenv
from secret_agent_client.cli.inject import parse_mode
from secret_agent_client.cli.output import escape
from secret_agent_client.cli.shell_words import assignment
from secret_agent_client.dotenv import parse_dotenv
from secret_agent_client.errors import InvalidError
from secret_agent_client.type_fields import DEFAULT_TYPE, is_plain_field, primary_field
from support.real import need

NASTY = (b"", b"it's", b'"$HOME" `id` $(id) \\', b"a\nb\n", b"\\'\\", b"*?[a] ~ # !x", b"\xff\x01")
SHELLS = {"bash": "bash", "zsh": "zsh", "fish": "fish", "posix": "sh"}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_reads_back_the_very_bytes(shell: str) -> None:
    program = need(SHELLS[shell])
    lines = [assignment(shell, f"V{at}", value) for at, value in enumerate(NASTY)]
    lines += [b"printf '%%s|' \"$V%d\"" % at for at in range(len(NASTY))]
    done = subprocess.run(
        [program, "-c", b"\n".join(lines).decode("utf-8", "surrogateescape")],
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"".join(value + b"|" for value in NASTY)


def test_a_nul_is_refused_by_name() -> None:
    with pytest.raises(InvalidError, match="NAME has a NUL"):
        assignment("bash", "NAME", b"a\0b")
    with pytest.raises(InvalidError, match="NAME has a NUL"):
        _dotenv("NAME", b"a\0b")


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8")))
@settings(max_examples=200)
def test_what_env_prints_a_dotenv_reader_takes_as_the_same(value: str) -> None:
    (item,) = parse_dotenv(_dotenv("NAME", value.encode()) + b"\n").assignments
    assert item.value.reveal().decode() == value
    assert not item.expands


def test_the_table_of_types_is_the_agents_own() -> None:
    assert DEFAULT_TYPE in TYPES
    for kind, known in TYPES.items():
        assert primary_field(kind) == known.primary
        fields = {*known.fields, "value", "password", "username", "other"}
        for field in fields:
            derived = field in known.fields and known.fields[field].derive is not None
            plain = not known.is_sensitive(field) and not derived
            assert is_plain_field(kind, field) == plain, (kind, field)
    assert not is_plain_field("a-type-of-tomorrow", "username")


@pytest.mark.parametrize(
    ("text", "mode"), [("0600", 0o600), ("640", 0o640), ("0644", 0o644), ("755", 0o755)]
)
def test_a_mode_is_octal(text: str, mode: int) -> None:
    assert parse_mode(text) == mode


def test_an_audit_record_is_one_line_whatever_is_in_it() -> None:
    record = {
        "seq": 1,
        "time": "2026-01-01T00:00:00Z",
        "action": "read",
        "outcome": "deny",
        "secret": "a/b",
        "because": "x\n[approved by policy]\x1b[31m",
        "holder": {"exe": "/tmp/a\nb", "pid": 7, "uid": 8, "container": "c" * 64},
    }
    shown = escape(_text(record))
    assert "\n" not in shown
    assert "deny read  a/b  by a\\x0ab[7] uid 8" in shown
    assert "[approved by policy]\\x1b[31m" in shown
