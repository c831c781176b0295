"""From argv to an exit status: every command of the table, and every bad invocation."""

import json
import sys
from argparse import ArgumentParser, Namespace

import pytest

from secret_agent_client.cli import command, main
from secret_agent_client.cli.command import COMMANDS, Command, load
from secret_agent_client.cli.main import without_values
from secret_agent_client.cli.output import Output
from secret_agent_client.errors import BY_CODE, ExpiredError, SecretAgentError

Captured = pytest.CaptureFixture[bytes]


def run(*argv: str) -> int:
    return main.main(argv)


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_of_the_table_exists_and_shows_an_example(
    verb: str, capfdbinary: Captured
) -> None:
    known = load(verb)
    assert known.example.startswith(("secret-agent ", "eval ", "printf ", "source "))
    assert f"secret-agent {verb}" in known.example
    assert run(verb, "--help") == 0
    said = capfdbinary.readouterr().out.decode()
    assert known.example in said
    assert "--no-input" in said
    assert "--debug" in said


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_table_says_what_the_command_says_of_itself(verb: str) -> None:
    told = COMMANDS[verb][1]
    assert told in ("", load(verb).help)
    assert not load(verb).help.endswith(".")


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_bad_invocation_shows_a_good_one_and_echoes_nothing(
    verb: str, capfdbinary: Captured
) -> None:
    assert run(verb, "--canary-option=canary-value") == 2
    captured = capfdbinary.readouterr()
    assert captured.out == b""
    assert load(verb).example.encode() in captured.err
    assert b"canary-value" not in captured.err


def test_alone_it_prints_a_short_help_and_fails(capfdbinary: Captured) -> None:
    assert run() == 2
    captured = capfdbinary.readouterr()
    assert captured.out == b""
    assert b"eval $(secret-agent start)" in captured.err


@pytest.mark.parametrize("argv", [("--help",), ("-h",), ("help",)])
def test_asked_for_help_lists_the_commands_on_stdout(
    argv: tuple[str, ...], capfdbinary: Captured
) -> None:
    assert run(*argv) == 0
    said = capfdbinary.readouterr().out.decode()
    shown = [verb for verb, (_, text) in COMMANDS.items() if text]
    assert all(f"  {verb} " in said for verb in shown)
    assert "unregister" not in said, "a hidden command is shown"


def test_help_of_a_command_is_its_help(capfdbinary: Captured) -> None:
    assert run("help", "lock") == 0
    assert b"usage: secret-agent lock" in capfdbinary.readouterr().out


def test_the_version_is_printed(capfdbinary: Captured) -> None:
    assert run("--version") == 0
    assert capfdbinary.readouterr().out == b"secret-agent 0.1.0\n"


@pytest.mark.parametrize(
    ("typed", "meant"), [("statsu", "status"), ("unlok", "unlock"), ("qqqqq", "--help")]
)
def test_an_unknown_command_suggests_the_nearest(
    typed: str, meant: str, capfdbinary: Captured
) -> None:
    assert run(typed) == 2
    said = capfdbinary.readouterr().err.decode()
    assert f"try: secret-agent {meant}" in said
    assert typed not in said


def test_an_unknown_option_before_the_command_is_refused(capfdbinary: Captured) -> None:
    assert run("--nonsense", "status") == 2
    assert run("--nonsense") == 2
    assert b"try: secret-agent --help" in capfdbinary.readouterr().err


MESSAGES = {
    "unrecognized arguments: hunter2 x": "an argument that it does not take",
    "argument --shell: invalid choice: 'hunter2' (choose from 'bash', 'zsh')": (
        "argument --shell cannot be that (choose from 'bash', 'zsh')"
    ),
    "argument --pid: invalid int value: 'hunter2'": "argument --pid cannot be that",
    "argument --json: ignored explicit argument 'hunter2'": "argument --json cannot be that",
    "the following arguments are required: REF": "the following arguments are required: REF",
    "argument --ttl: expected one argument": "argument --ttl: expected one argument",
}


@pytest.mark.parametrize(("message", "shown"), MESSAGES.items())
def test_what_was_typed_is_taken_out_of_the_parsers_words(message: str, shown: str) -> None:
    assert without_values(message) == shown


def test_the_parsers_own_words_hold_nothing_that_was_typed(capfdbinary: Captured) -> None:
    """The table above is argparse's wording of today; this asks the argparse that is here."""
    for words in (
        ("start", "--shell", "hunter2"),
        ("start", "--pid", "hunter2"),
        ("status", "--json=hunter2"),
        ("status", "hunter2"),
        ("unlock", "--keyring", "--passphrase-fd", "3", "hunter2"),
    ):
        assert run(*words) == 2
        assert b"hunter2" not in capfdbinary.readouterr().err, words


class Told:
    """A command that does what the test says, put in the place of `lock`."""

    def __init__(self, does: "SecretAgentError | BaseException | int", **more: bool) -> None:
        self.does = does
        self.args: Namespace | None = None
        self.command = Command("x", "secret-agent lock", self.configure, self.run, **more)

    def configure(self, parser: ArgumentParser) -> None:
        parser.add_argument("words", nargs="*")
        command.add_json(parser)

    def run(self, args: Namespace, out: Output) -> int:
        self.args = args
        if isinstance(self.does, BaseException):
            raise self.does
        out.line("done")
        return self.does


def told(monkeypatch: pytest.MonkeyPatch, does: BaseException | int, **more: bool) -> Told:
    made = Told(does, **more)
    monkeypatch.setattr(main, "load", lambda _verb: made.command)
    return made


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=BY_CODE)
def test_each_error_has_its_exit_status(
    kind: type[SecretAgentError], monkeypatch: pytest.MonkeyPatch, capfdbinary: Captured
) -> None:
    told(monkeypatch, kind("what happened", remedy="do this"))
    assert run("lock") == kind.exit_status
    captured = capfdbinary.readouterr()
    assert captured.err == b"secret-agent: what happened\n  try: do this\n"
    assert captured.out == b""


@pytest.mark.parametrize("argv", [("lock", "--json"), ("--json", "lock")])
def test_with_json_the_error_is_a_document(
    argv: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfdbinary: Captured
) -> None:
    told(monkeypatch, ExpiredError("over"))
    assert run(*argv) == 8
    document = json.loads(capfdbinary.readouterr().out)
    assert document == {"error": {"code": "expired", "message": "over"}}


def test_a_bad_invocation_with_json_is_a_document_too(capfdbinary: Captured) -> None:
    assert run("status", "--json", "--nonsense") == 2
    assert json.loads(capfdbinary.readouterr().out)["error"]["code"] == "usage"


def test_a_bug_is_told_by_its_type_and_never_by_its_text(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: Captured
) -> None:
    told(monkeypatch, ValueError("canary-value"))
    assert run("lock") == 1
    quiet = capfdbinary.readouterr().err
    assert run("lock", "--debug") == 1
    loud = capfdbinary.readouterr().err
    for said in (quiet, loud):
        assert b"ValueError" in said
        assert b"canary-value" not in said
    assert b"test_cli_core_main.py" in loud
    assert b"test_cli_core_main.py" not in quiet


def test_debug_shows_where_a_known_error_came_from_and_its_cause(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: Captured
) -> None:
    error = ExpiredError("over")
    error.__cause__ = KeyError("canary-value")
    told(monkeypatch, error)
    assert run("--debug", "lock") == 8
    said = capfdbinary.readouterr().err
    assert b"in run\n" in said
    assert b"caused by\n  KeyError" in said
    assert b"canary-value" not in said


def test_ctrl_c_is_no_error_with_words(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: Captured
) -> None:
    told(monkeypatch, KeyboardInterrupt())
    assert run("lock") == 130
    assert capfdbinary.readouterr().err == b""


def test_what_follows_two_dashes_is_somebody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    made = told(monkeypatch, 0, takes_command=True)
    assert run("lock", "a", "--", "cmd", "--json", "--debug", "--", "x") == 0
    assert made.args is not None
    assert made.args.command == ["cmd", "--json", "--debug", "--", "x"]
    assert (made.args.words, made.args.json, made.args.debug) == (["a"], False, False)
    assert run("lock", "a") == 0
    assert made.args.command is None
    assert run("lock", "--") == 0
    assert made.args.command == []


def test_where_no_command_is_taken_two_dashes_end_the_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = told(monkeypatch, 0)
    assert run("lock", "--", "--json") == 0
    assert made.args is not None
    assert made.args.words == ["--json"]


def test_no_command_is_imported_before_it_is_used() -> None:
    import subprocess

    from support.agent import SOURCES

    code = "import sys, secret_agent_client.cli.main; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": SOURCES}, capture_output=True, check=True
    )
    loaded = set(done.stdout.decode().split())
    ours = {f"secret_agent_client.cli.{module}" for module, _ in COMMANDS.values()}
    assert loaded & ours == set()
