"""What holds for every file of the repository: its size, its words, and what it must not name."""

import ast
import re
from pathlib import Path

from support.tree import ROOT, functions, python_files, shown, tracked

MOST_LINES = 400  # of a file
MOST_FUNCTION = 60  # lines of a function

TEXTS = {
    ".py",
    ".md",
    ".toml",
    ".sh",
    ".bash",
    ".zsh",
    ".fish",
    ".lock",
    ".txt",
    ".yml",
    ".yaml",
    "",
}

# Spelled so that this file does not hold what it looks for.
UNFINISHED = re.compile(
    r"\b(?:" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]) + r")\b"
)
MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:" + "work|root|home/[a-z]+" + r")/")
INDEX = re.compile(
    "|".join(["index" + "-url", "extra-" + "index", "pypi" + r"\.org", "files\\.python" + "hosted"])
)


def _texts() -> list[Path]:
    return [path for path in tracked() if path.suffix in TEXTS and "vectors" not in path.parts]


def _lines_matching(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{shown(path)}:{number}"
        for path in _texts()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_the_tree_is_found() -> None:
    assert len(python_files()) > 20
    assert ROOT / "pyproject.toml" in tracked()


def test_no_source_file_is_longer_than_a_sitting() -> None:
    long = {shown(path): len(path.read_text().splitlines()) for path in python_files()}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        f"{shown(path)}:{node.name}": length
        for path in python_files()
        for node in functions(path)
        if (length := (node.end_lineno or 0) - node.lineno + 1) > MOST_FUNCTION
    }
    assert long == {}


def test_every_module_of_ours_tells_what_it_is() -> None:
    silent = [
        shown(path)
        for path in python_files()
        if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert silent == []


def test_nothing_is_left_unfinished_or_for_later() -> None:
    assert _lines_matching(UNFINISHED) == []


def test_no_file_names_a_machine_or_an_index() -> None:
    assert _lines_matching(MACHINE_PATH) == []
    assert _lines_matching(INDEX) == []


def test_no_module_shadows_the_standard_library() -> None:
    shadowing = {"secrets.py", "types.py", "exec.py", "platform.py", "signal.py", "select.py"}
    ours = [path for path in python_files() if path.parts[len(ROOT.parts)] in ("agent", "client")]
    assert [shown(path) for path in ours if path.name in shadowing] == []


def test_every_exemption_has_its_reason_on_its_line() -> None:
    """`# noqa: S101  # reason`, `# type: ignore[x]  # reason`, `# pragma: no cover  # reason`."""
    bare = re.compile(r"#\s*(?:noqa\b|type:\s*ignore|pragma:\s*no)(?!.*\s#\s\S)")
    found = [
        f"{shown(path)}:{number}"
        for path in python_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if bare.search(line) and "bare = re" not in line and "`#" not in line
    ]
    assert found == []


def test_every_exemption_of_the_linter_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    section = text.partition("[tool.ruff.lint]")[2].partition("[tool.ruff.lint.pylint]")[0]
    listed = [line for line in section.splitlines() if re.match(r'\s+"[A-Z]+\d*"', line)]
    assert listed
    assert [line for line in listed if "#" not in line] == []


def test_tests_do_not_sleep() -> None:
    """A sleep is a race written down: wait for the thing itself, with a deadline.

    Under a virtual clock trio.sleep takes no time and is none.
    """
    sleeping = re.compile(r"\b(?:time|trio)\.sleep\(")
    found = [
        f"{shown(path)}:{number}"
        for path in python_files()
        if "tests" in path.parts and "bench" not in path.parts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if sleeping.search(line) and "re.compile" not in line
        if not ("trio.sleep" in line and "autojump_clock" in path.read_text())
    ]
    assert found == []


def test_test_files_have_names_of_their_own() -> None:
    """With importlib two files of one name work, and then no report says which of them failed."""
    names = [path.name for path in python_files() if path.name.startswith("test_")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
