"""Real containers for tests: podman with a storage of its own, and an image made from this machine.

Rules that hold here: nothing is downloaded; no image, container or setting of the person who runs
the tests is touched; what podman needs to work on a small machine stands in a containers.conf, so
that a command in a test is the command that a person types.
"""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import pytest

from support.real import need

IMAGE = "localhost/bare-python"
COMMAND_S = 60.0
ADMIN_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

# Parts of a standard library that no client needs: most of it, in bytes.
_LEFT_OUT = re.compile(
    r"config-|test$|idlelib|lib2to3|ensurepip|distutils|turtledemo|pydoc_data|tkinter|unittest"
    r"|dist-packages|site-packages|sitecustomize|asyncio|xml|multiprocessing|http$|curses|sqlite3"
    r"|_ctypes_test|_test|_codecs_|nis\.|readline"
    r"|_(crypt|curses|db|decimal|gdbm|hashlib|lzma|sqlite|ssl|tk).*\.so$|.*\.opt-[12]\.pyc$|.*\.a$"
)

_CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
tmp_dir = "{path}/t"
volume_path = "{path}/v"
"""


class Engine:
    """podman, with its images and containers in a folder that goes away with it."""

    def __init__(self) -> None:
        self.podman = need("podman")
        need("runc")
        # Short and not pytest's: podman puts sockets below it, whose paths are bounded.
        self.path = Path(tempfile.mkdtemp(prefix="sa-pod-"))
        self.environment = self._settings()

    def __enter__(self) -> Self:
        try:
            self._import_image()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _settings(self) -> dict[str, str]:
        (self.path / "containers.conf").write_text(_CONTAINERS_CONF.format(path=self.path))
        where = f'graphroot = "{self.path}/g"\nrootless_storage_path = "{self.path}/g"\n'
        storage = f'[storage]\ndriver = "overlay"\nrunroot = "{self.path}/r"\n{where}'
        (self.path / "storage.conf").write_text(storage)
        (self.path / "run").mkdir(mode=0o700)
        return {
            "PATH": ADMIN_PATH,
            "HOME": str(self.path),
            "XDG_RUNTIME_DIR": str(self.path / "run"),
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",  # or podman starts one and leaves it
            "CONTAINERS_CONF": str(self.path / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.path / "storage.conf"),
        }

    def run(
        self, *args: str, env: Mapping[str, str] | None = None, check: bool = True
    ) -> "subprocess.CompletedProcess[bytes]":
        """`podman ARGS` to its end."""
        done = subprocess.run(
            [self.podman, *args],
            env={**self.environment, **(env or {})},
            capture_output=True,
            timeout=COMMAND_S,
            check=False,
            cwd=self.path,
        )
        assert not check or done.returncode == 0, f"podman {args}: {done.stderr.decode()}"
        return done

    def _import_image(self) -> None:
        archive = self.path / "rootfs.tar"
        archive.write_bytes(root_file_system())
        done = self.run("import", "--quiet", str(archive), IMAGE, check=False)
        archive.unlink()
        if done.returncode:
            _cannot(f"podman cannot make an image here: {done.stderr.decode()}")
        tried = self.run("run", "--rm", IMAGE, "true", check=False)
        if tried.returncode:
            _cannot(f"podman cannot run a container here: {tried.stderr.decode()}")

    def close(self) -> None:
        """Remove containers, images and, where podman is rootless, the process it leaves behind."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.run("rm", "--force", "--all", "--time", "0", check=False)
            self._remove_storage()
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            pause = int((self.path / "t/pause.pid").read_text())
            os.kill(pause, signal.SIGKILL)
        shutil.rmtree(self.path, ignore_errors=True)

    def _remove_storage(self) -> None:
        """podman leaves the storage mounted on itself; without root, in a namespace of its own."""
        overlay = self.path / "g/overlay"
        script = f"umount '{overlay}'; rm -rf '{self.path / 'g'}'"
        if os.geteuid() == 0:
            subprocess.run(["sh", "-c", script], check=False, capture_output=True)
        else:
            self.run("unshare", "sh", "-c", script, check=False)


def _cannot(why: str) -> None:
    """Skip, or fail where CI=true, as `need` does."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def root_file_system() -> bytes:
    """A tar of busybox and a bare python3, from this machine's own."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as made:
        for folder in ("bin", "etc", "proc", "sys", "dev", "run", "usr/bin"):
            _folder(made, folder, 0o755)
        _folder(made, "tmp", 0o1777)
        made.add(need("busybox"), "bin/busybox")
        for applet in ("sh", "cat", "env", "id", "ls", "rm", "sleep", "stat", "true", "kill"):
            _link(made, f"bin/{applet}", "busybox")
        _link(made, "usr/bin/env", "/bin/busybox")
        for path in _python_files():
            made.add(path, str(path).lstrip("/"), recursive=False)
        _link(made, "bin/python3", str(_interpreter()))
    return buffer.getvalue()


def _folder(made: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    made.addfile(entry)


def _link(made: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    made.addfile(entry)


def _interpreter() -> Path:
    """A python that is no virtual environment: the system's, or the one that made ours."""
    for candidate in ("/usr/bin/python3", str(getattr(sys, "_base_executable", sys.executable))):
        asked = subprocess.run(
            [candidate, "-ISc", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False
        )
        if asked.returncode == 0:
            return Path(candidate).resolve()
    raise AssertionError("no python 3.11 or later to put into an image")


def _python_files() -> Iterator[Path]:
    """The interpreter, its standard library without what no client needs, and their libraries."""
    interpreter = _interpreter()
    yield interpreter
    asked = [str(interpreter), "-ISc", "import os; print(os.path.dirname(os.__file__))"]
    library = Path(subprocess.run(asked, capture_output=True, check=True, text=True).stdout.strip())
    modules = [
        path for path in sorted(library.rglob("*")) if not _left_out(path.relative_to(library))
    ]
    yield from modules
    binaries = [interpreter, *(path for path in modules if path.suffix == ".so")]
    ldd = ["ldd", *map(str, binaries)]
    listed = subprocess.run(ldd, capture_output=True, check=False, text=True).stdout
    yield from sorted({Path(found) for found in re.findall(r"(/\S+) \(0x", listed)})


def _left_out(path: Path) -> bool:
    return any(_LEFT_OUT.match(part) for part in path.parts)


def container_id(engine: Engine, name: str) -> str:
    """The full id of a container that runs."""
    return str(json.loads(engine.run("inspect", name).stdout)[0]["Id"])
