"""The source tree as the rules see it: files as git knows them, modules, imports, functions."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = {"secret_agent": ROOT / "agent", "secret_agent_client": ROOT / "client"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tracked() -> list[Path]:
    """Every file that git tracks; every file there is, where git or its folder is missing."""
    try:
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return sorted(path for path in ROOT.rglob("*") if path.is_file())
    return sorted(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


def python_files() -> list[Path]:
    """Python sources among them, tests included, files without a suffix left out."""
    return [path for path in tracked() if path.suffix == ".py"]


def modules(package: str) -> dict[str, Path]:
    """Dotted name -> file, of one of the two packages, as it is on disk."""
    root = SOURCE_ROOTS[package]
    return {
        _dotted(path.relative_to(root)): path for path in sorted((root / package).rglob("*.py"))
    }


def _dotted(relative: Path) -> str:
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, dotted: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything a module imports, at its top or inside a function."""
    package = dotted if path.name == "__init__.py" else dotted.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, name) for name in _imported_from(node, package))


def _imported_from(node: ast.ImportFrom, package: str) -> Iterator[str]:
    """`from a import b` may name the module a.b or a thing in a: both are given."""
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, base] if base else above)
    yield base
    for alias in node.names:
        yield f"{base}.{alias.name}"


def functions(path: Path) -> Iterator[Function]:
    """Every function and method of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def shown(path: Path) -> str:
    """A path as a finding names it."""
    return str(path.relative_to(ROOT))
