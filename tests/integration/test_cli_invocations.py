"""A bad invocation is exit 2 at once, says why, shows the right way, and repeats no argument.

The command line runs in this process, with the agent of the module behind it.
"""

import io
import sys
from collections.abc import Callable

import pytest

from secret_agent_client.cli.main import main
from support.agent import Agent

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(
    shared: Agent, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Run:
    for name in ("SECRET_AGENT_SOCK", "SECRET_AGENT_PID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SECRET_AGENT_HOME", str(shared.path))
    monkeypatch.setenv("CI", "true")  # whoever runs the tests is not asked
    monkeypatch.chdir(shared.path)

    def run_here(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x")))
        status = main(words)
        out, err = capfdbinary.readouterr()
        shared.said += [(f"stdout of {words[:1]}", out), (f"stderr of {words[:1]}", err)]
        assert out == b"" or out.startswith(b'{\n  "error": {')
        return status, err.decode()

    return run_here


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("set",), "set needs a name"),
        (("set", "a/b?version=2", "--stdin"), "cannot name one"),
        (("set", "a/b?stage=x", "--stage", "y", "--stdin"), "name two stages"),
        (("set", "a/b", "--stdin", "--json-stdin"), "one can give the value"),
        (("set", "a/b", "--stdin", "--generate"), "one can give the value"),
        (("set", "a/b", "--field", "x"), "no terminal to ask for x at"),
        (("set", "a/b"), "no terminal to ask for value at"),
        (("set", "A/b", "--stdin"), "'A' at position 0"),
        (("get", "a/b", "--ttl", "soon"), "--ttl must be like"),
        (("get", "a/../b"), "'.' at position 2"),
        (("get", "a/b", "--copy", "--json"), "do not go together"),
        (("ls", "a b"), "' ' at position 1"),
        (("describe", "a#b"), "not about one of its fields"),
        (("history", "a?version=1"), "about all versions"),
        (("restore", "a"), "restore needs the version"),
        (("rm", "a", "--version", "0"), "versions count from 1"),
        (("rm", "a?version=1", "--version", "2"), "do not agree"),
        (("revoke",), "revoke needs ids"),
        (("revoke", "--holder", "0"), "the pid of a process"),
        (("revoke", "--secret", "A"), "'A' at position 0"),
        (("delegate", "--socket", "s"), "delegate needs --allow"),
        (("delegate", "--allow", "a"), "delegate needs --socket PATH, or a command"),
        (("delegate", "--allow", "A", "--socket", "s"), "'A' at position 0"),
        (("delegate", "--allow", "a", "--socket", "s", "--max-uses", "0"), "--max-uses"),
        (("delegate", "--allow", "a", "--socket", "s", "--mode", "0777"), "nobody execute"),
        (("delegate", "--allow", "a", "--socket", "s", "--mode", "rw"), "octal digits"),
        (("delegate", "--allow", "a", "--json", "--", "true"), "nothing to print"),
        (("delegate", "--allow", "a", "--socket", "x" * 120), "1 to 107 bytes"),
        (("delegate", "--allow", "a", "--socket", "nowhere/s"), "directory of --socket"),
        (("policy", "explain", "a", "--as", "x"), "--as is KEY=VALUE"),
        (("policy", "check", "nowhere.toml"), "the policy cannot be read"),
        (("policy",), "WHAT"),
        (("audit", "show", "--since", "x"), "--since must be like"),
        (("audit", "show", "--holder", "-1"), "the pid of a process"),
        (("import", "no-such-file"), "cannot be read"),
        (("import", "x.env", "--prefix", "../x"), "cannot begin a segment"),
        (("import", "x.env", "--passphrase-fd", "0"), "are for encrypted backups"),
        (("export", "--encrypted-to", "hunter2hunter2"), "a recipient is an age public key"),
        (("export", "--encrypted-to", "age1x", "--encrypted-to", "passphrase"), "not to both"),
        (("export", "--encrypted-to", "passphrase"), "no terminal to ask"),
        (("export", "--encrypted-to", "age1x", "--json"), "--json needs -o FILE"),
        (("export",), "--encrypted-to"),
    ],
)
def test_it_says_why(run: Run, shared: Agent, words: tuple[str, ...], message: str) -> None:
    (shared.path / "x.env").write_text("A=b\n")
    status, said = run(*words)
    assert (status, message in said) == (2, True), said
    assert "hunter2" not in said


@pytest.mark.parametrize("mode", ["0666", "4600", "rw", "0200", "99", ""])
def test_a_mode_that_cannot_be_meant_is_refused(run: Run, mode: str) -> None:
    status, said = run("inject", "-o", "x", "--mode", mode)
    assert (status, "--mode must" in said) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ("set", "arg/x", "cnryTYPEDVALUE"),
        ("set", "arg/x", "--stdin", "cnryTYPEDVALUE"),
        ("set", "arg/x", "value=cnryTYPEDVALUE"),
        ("set", "arg/x", "password=cnryTYPEDVALUE", "--type", "login"),
        ("set", "arg/x", "--type", "no-such-type", "username=cnryTYPEDVALUE"),
        ("set", "arg/x", "--cnryTYPEDVALUE"),
        ("get", "arg/x", "cnryTYPEDVALUE"),
        ("get", "--copy=cnryTYPEDVALUE", "arg/x"),
        ("policy", "cnryTYPEDVALUE"),
        ("import", "x.env", "cnryTYPEDVALUE"),
        ("export", "--encrypted-to", "cnryTYPEDVALUE"),
    ],
)
def test_a_value_as_an_argument_is_refused_and_never_repeated(
    run: Run, shared: Agent, words: tuple[str, ...]
) -> None:
    shared.plant(b"cnryTYPEDVALUE")  # the sweep looks for it in all that was said
    status, said = run(*words)
    assert status == 2
    assert "TYPEDVALUE" not in said
    assert "  try: " in said
