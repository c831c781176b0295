"""The agent's process keeps its memory and environment to itself, and says truly what holds."""

import json
import mmap
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent import hardening
from secret_agent.hardening import (
    KEPT_VARIABLES,
    MAX_FILES,
    LockedPage,
    Protection,
    clean_environment,
    raise_file_limit,
)
from support.real import need

CANARY = "canary-5f1c0b7e"


def run(script: str, *, before: Sequence[str] = (), **more: Any) -> Any:
    """Run a script in a process of its own, for what is hardened stays so; the JSON it prints."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [
            *before,
            sys.executable,
            "-c",
            f"import sys; sys.path[:0] = {path!r}.split(':')\n{script}",
        ],
        capture_output=True,
        timeout=20,
        check=False,
        **more,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def protections(script: str = "", *, env: Mapping[str, str] | None = None) -> dict[str, Protection]:
    """What `report` says in a process that did `script` before, by name."""
    told = run(
        "import json, dataclasses; from secret_agent import hardening\n"
        f"{script}\n"
        "print(json.dumps([dataclasses.asdict(each) for each in hardening.report()]))",
        env=dict(os.environ if env is None else env),
    )
    return {each["name"]: Protection(**each) for each in told}


HARDEN = "hardening.harden_process()"


def test_a_hardened_process_writes_no_core_and_is_not_dumpable() -> None:
    assert protections(HARDEN)["no-core"] == Protection(
        "no-core", held=True, detail="core size limit 0, dumpable 0"
    )


def test_a_process_that_is_not_hardened_is_told_so() -> None:
    told = protections("import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))")
    assert not told["no-core"].held
    assert told["no-core"].detail == "core size limit 0, dumpable 1"
    assert not told["unreadable"].held


def test_another_process_of_the_user_cannot_read_a_hardened_one() -> None:
    """Found by trying: root may, anybody else is refused."""
    told = protections(HARDEN)["unreadable"]
    assert told.held == (os.geteuid() != 0)
    if not told.held:
        assert told.detail == "another process read this one: root reads every process"


def test_hardening_survives_in_what_it_starts_as_far_as_the_kernel_lets_it() -> None:
    """A child has the core limit; dumpable it is again after exec, which is why `run` says so."""
    script = (
        "import json, subprocess; from secret_agent import hardening; hardening.harden_process()\n"
        "print(json.dumps(subprocess.check_output(['sh', '-c', 'ulimit -c']).decode().strip()))"
    )
    assert run(script) == "0"


def test_hardening_leaves_only_what_the_agent_needs_in_the_environment() -> None:
    env = {**os.environ, "AWS_SECRET_ACCESS_KEY": CANARY, "HOME": "/h", "KEPT": "1"}
    script = (
        "import json, os; from secret_agent import hardening\n"
        "hardening.harden_process(keep={'KEPT'}); print(json.dumps(dict(os.environ)))"
    )
    left = run(script, env=env)
    assert CANARY not in left.values()
    assert (left["HOME"], left["KEPT"]) == ("/h", "1")
    assert set(left) <= KEPT_VARIABLES | {"KEPT"} | {name for name in left if name[:3] == "LC_"}


def test_the_initial_environment_is_the_one_that_the_kernel_shows() -> None:
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123  # a file of the kernel
        shown = [os.fsdecode(entry) for entry in file.read().split(b"\0") if entry]
    assert hardening._initial_environment() == shown


def test_a_process_started_with_more_than_it_needs_is_told_so_without_values() -> None:
    """/proc/self/environ keeps what the process was started with, whatever it drops later."""
    clean = clean_environment(os.environ)
    assert protections(HARDEN, env=clean)["clean-environment"].held
    told = protections(HARDEN, env={**clean, "TOKEN": CANARY})["clean-environment"]
    assert not told.held
    assert told.detail.startswith("1 variables")
    assert CANARY not in repr(told)


def test_the_clean_environment_holds_what_it_must_and_nothing_that_runs_code() -> None:
    told = clean_environment(
        {
            "HOME": "/h", "PATH": "/bin", "XDG_RUNTIME_DIR": "/run", "LC_ALL": "C", "LANG": "C",
            "LD_PRELOAD": "x", "PYTHONPATH": "x", "PYTHONSTARTUP": "x", "BASH_ENV": "x",
            "HTTPS_PROXY": "http://user:pw@proxy", "GITHUB_TOKEN": "x", "lc_all": "x", "MINE": "1",
        },
        keep=["MINE"],
    )  # fmt: skip  # a table
    assert sorted(told) == ["HOME", "LANG", "LC_ALL", "MINE", "PATH", "XDG_RUNTIME_DIR"]


@given(st.dictionaries(st.text(), st.text()))
def test_a_clean_environment_is_clean(environ: dict[str, str]) -> None:
    once = clean_environment(environ)
    assert clean_environment(once) == once
    assert once.items() <= environ.items()


def test_no_kept_variable_is_one_that_holds_secrets_or_runs_code() -> None:
    bad = ("TOKEN", "SECRET_ACCESS", "PASSWORD", "PROXY", "LD_", "PYTHON", "_ENV", "STARTUP")
    assert [name for name in KEPT_VARIABLES if any(part in name for part in bad)] == []


def test_the_file_limit_is_raised_to_the_hard_one() -> None:
    script = (
        "import json, resource; from secret_agent import hardening\n"
        "hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 4096)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))\n"
        "raised = hardening.raise_file_limit()\n"
        "print(json.dumps([raised, hard, *resource.getrlimit(resource.RLIMIT_NOFILE)]))"
    )
    raised, hard, soft, still_hard = run(script)
    assert raised == soft == hard == still_hard


def test_a_file_limit_without_end_is_raised_to_a_million(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    endless = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, endless))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    assert raise_file_limit() == MAX_FILES
    assert asked == [(MAX_FILES, endless)]


@pytest.mark.parametrize("soft", [MAX_FILES, MAX_FILES + 1, resource.RLIM_INFINITY])
def test_a_file_limit_that_is_high_enough_is_left_alone(
    soft: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, resource.RLIM_INFINITY))
    monkeypatch.delattr(resource, "setrlimit")
    assert raise_file_limit() == soft


def test_a_locked_page_is_locked_not_dumped_and_empty_after_a_fork() -> None:
    """As the kernel flags it, where the user may lock a page at all."""
    told = protections()
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    may_lock = os.geteuid() == 0 or limit == resource.RLIM_INFINITY or limit >= mmap.PAGESIZE
    assert told["locked-page"].held == may_lock
    assert told["page-not-dumped"].held
    assert told["page-wiped-on-fork"].held


def test_a_page_that_may_not_be_locked_works_all_the_same_and_says_so() -> None:
    # root may lock whatever the limit says, unless that capability is gone.
    bound = [need("setpriv"), "--bounding-set", "-ipc_lock"] if os.geteuid() == 0 else []
    script = (
        "import json, resource; from secret_agent import hardening\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0)); page = hardening.LockedPage()\n"
        "page.buffer[:3] = b'abc'; told = {each.name: each.held for each in hardening.report()}\n"
        "print(json.dumps([page.locked, bytes(page.buffer[:3]).decode(), told['locked-page']]))"
    )
    assert run(script, before=bound) == [False, "abc", False]


def test_a_fork_finds_the_page_empty() -> None:
    page = LockedPage()
    page.buffer[:6] = b"secret"
    pid = os.fork()
    if pid == 0:  # pragma: no cover  # the child ends here, unmeasured
        os._exit(0 if bytes(page.buffer[:6]) == bytes(6) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert bytes(page.buffer[:6]) == b"secret"
    page.close()


@pytest.mark.parametrize("size", [1, 32, mmap.PAGESIZE, mmap.PAGESIZE + 1])
def test_a_page_holds_what_was_asked_for_from_a_page_boundary(size: int) -> None:
    page = LockedPage(size)
    assert len(page.buffer) == size
    assert page.address % mmap.PAGESIZE == 0
    assert bytes(page.buffer) == bytes(size)
    page.close()


def test_a_wiped_page_is_zero_and_a_closed_one_is_gone() -> None:
    page = LockedPage(32)
    page.buffer[:] = b"k" * 32
    page.wipe()
    assert bytes(page.buffer) == bytes(32)
    page.close()
    page.close()
    with pytest.raises(ValueError, match="released"):
        bytes(page.buffer)


def test_a_page_is_wiped_before_it_is_given_back() -> None:
    wiped: list[bytes] = []

    class Watched(LockedPage):
        def wipe(self) -> None:
            super().wipe()
            wiped.append(bytes(self.buffer))

    page = Watched(4)
    page.buffer[:] = b"keys"
    page.close()
    assert wiped == [bytes(4)]


def test_pages_are_given_back() -> None:
    def locked_kib() -> int:
        with open("/proc/self/status", "rb") as file:  # noqa: PTH123  # a file of the kernel
            line = next(line for line in file if line.startswith(b"VmLck:"))
        return int(line.split()[1])

    before = locked_kib()
    pages = [LockedPage() for _ in range(4)]
    assert locked_kib() == before + sum(page.locked for page in pages) * mmap.PAGESIZE // 1024
    for page in pages:
        page.close()
    assert locked_kib() == before


def test_every_protection_is_named_once_and_explained() -> None:
    told = hardening.report()
    assert len({each.name for each in told}) == len(told)
    assert all(each.detail and each.detail[-1] != "." for each in told)


def test_a_hardened_agent_still_identifies_its_peers() -> None:
    """Not dumpable, its own /proc is root's: what it reads there of itself must still be given."""
    script = (
        "import json, os, socket; from secret_agent import hardening, holder\n"
        "hardening.harden_process(); ours, theirs = socket.socketpair()\n"
        "peer = holder.Peer.from_socket(ours, own=holder.Namespaces.own())\n"
        "print(json.dumps(peer.identify(scope=None).pid == os.getpid()))"
    )
    assert run(script) is True
