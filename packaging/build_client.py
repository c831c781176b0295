#!/usr/bin/env python3
"""Build the client as one file: a zipapp that a bare python3 (3.11 or later) runs, -I -S included.

    python3 packaging/build_client.py -o secret-agent

Rules that hold here: the standard library alone, at build time and at run time; the same sources
make the same bytes, on any machine and by any Python (names sorted, times and modes fixed, nothing
compressed, since compressors differ); the file is complete or not there.  The agent is not in it,
and nothing but the client's own sources and the shell scripts ever is.
"""

import argparse
import io
import os
import py_compile
import stat
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "secret_agent_client"
INTERPRETER = "/usr/bin/env python3"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
SHELL_SCRIPTS = ("hook.bash", "hook.zsh", "hook.fish", "hook.sh", "direnv.sh")

MAIN = f'''\
"""Entry of the one-file client."""

from {PACKAGE}.entry import run

run()
'''


def members() -> dict[str, bytes]:
    """Name and content of every file in the archive, in the order in which they are stored."""
    source = ROOT / "client"
    found = {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in source.joinpath(PACKAGE).rglob("*.py")
    }
    for name in SHELL_SCRIPTS:
        found[f"{PACKAGE}/shell/{name}"] = (ROOT / "shell" / name).read_bytes()
    return {"__main__.py": MAIN.encode(), **dict(sorted(found.items()))}


def with_bytecode(sources: dict[str, bytes]) -> dict[str, bytes]:
    """The sources, each with what this very Python compiles it to; any other one ignores that."""
    both: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        source, compiled = Path(folder, "source.py"), Path(folder, "compiled.pyc")
        for name, content in sources.items():
            both[name] = content
            if name.endswith(".py") and name != "__main__.py":
                source.write_bytes(content)
                # Unchecked: nobody changes a source inside the archive, and no time is recorded.
                mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
                py_compile.compile(
                    str(source), str(compiled), name, doraise=True, invalidation_mode=mode
                )
                both[name + "c"] = compiled.read_bytes()
    return both


def archive(files: dict[str, bytes], interpreter: str = INTERPRETER) -> bytes:
    """The whole file: an interpreter line, then the zip."""
    buffer = io.BytesIO()
    buffer.write(b"#!" + interpreter.encode() + b"\n")
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as made:
        for name, content in files.items():
            made.writestr(_entry(name), content)
    return buffer.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system = 3  # Unix, whatever system builds
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def write(path: Path, content: bytes) -> None:
    """Put an executable file in place by rename, so that nobody ever runs half of one."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, 0o755)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def main(argv: list[str]) -> int:
    """Build as the arguments say; 0, or argparse's 2."""
    parser = argparse.ArgumentParser(
        description="Build the client of secret-agent as one file that a bare python3 runs.",
        epilog="example: python3 packaging/build_client.py -o secret-agent",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write")
    parser.add_argument(
        "--python",
        default=INTERPRETER,
        metavar="COMMAND",
        help="the interpreter line, such as '/usr/bin/python3 -IS' (default: %(default)s)",
    )
    parser.add_argument(
        "--bytecode",
        action="store_true",
        help="add what this Python compiles: starts twice as fast there, depends on its version",
    )
    options = parser.parse_args(argv)
    if "\n" in options.python or len(options.python) > 120:
        parser.error("--python must be one line of at most 120 characters")
    files = with_bytecode(members()) if options.bytecode else members()
    write(options.output, archive(files, options.python))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
