"""Imports point down only, and the client stands alone.

A module imports its own package's siblings and what stands on a lower line of TIERS, at its top and
inside its functions alike.  A new module gets its place here before anything may import it.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from support.tree import SOURCE_ROOTS, imports, modules, shown

# The agent, from the top down; names of one line do not import each other.
TIERS = (
    ("__main__",),
    ("daemon",),
    ("places",),
    ("server",),
    ("transfer", "unlock", "writes", "doctor", "view"),
    ("core",),
    ("broker",),
    ("store_access", "events", "prompt_desk", "shells", "workdirs"),
    ("scopes", "leases", "session", "policy", "secret_types", "audit", "triggers", "backup"),
    ("holder", "store", "config", "hardening", "keyring_key", "boot_timer"),
    ("model", "clock", "threads", "sealed_memory"),
)
RANK = {name: rank for rank, names in enumerate(TIERS) for name in names}

# What of the client's package every part of the agent may lean on: words and values, no wire.
SHARED = {"codec", "errors", "value", "references", "duration", "paths", "private_file", "version"}
# Who speaks the wire.  Of its verbs' module others may have the limits of a secret, MAX_*.
SPEAKERS = {"server", "daemon"}
LIMITS = "secret_agent_client.messages.MAX_"

# What the commands of every day import, beyond themselves.  `import X` of one of these costs more
# than all of `secret-agent get`.
STDLIB = sys.stdlib_module_names


def _first(dotted: str, package: str) -> str | None:
    """The part of a dotted name below its package: secret_agent.store.rows -> store."""
    head, dot, rest = dotted.partition(".")
    return rest.split(".")[0] if head == package and dot else None


def _only_for_limits(name: str, every: list[str]) -> bool:
    taken = [other for other in every if other.startswith(name + ".")]
    return name == LIMITS.rpartition(".")[0] and all(each.startswith(LIMITS) for each in taken)


def _agent_imports() -> list[tuple[str, str, str, str]]:
    """(where, importing part, imported package, imported part), for every import of ours."""
    found = []
    for dotted, path in modules("secret_agent").items():
        part = _first(dotted, "secret_agent")
        if part is None:
            continue
        every = [found_name for _, found_name in imports(path, dotted)]
        for line, name in imports(path, dotted):
            if name.startswith(LIMITS) or _only_for_limits(name, every):
                continue
            for package in SOURCE_ROOTS:
                imported = _first(name, package)
                if imported is not None:
                    found.append((f"{shown(path)}:{line}", part, package, imported))
    return found


def test_every_part_of_the_agent_has_its_place() -> None:
    parts = {_first(dotted, "secret_agent") for dotted in modules("secret_agent")} - {None}
    assert parts == set(RANK)


def test_imports_inside_the_agent_point_down() -> None:
    wrong = {
        f"{where}: {part} imports {imported}"
        for where, part, package, imported in _agent_imports()
        if package == "secret_agent"
        and imported in RANK
        and imported != part
        and RANK[imported] <= RANK[part]
    }
    assert wrong == set()


def test_only_the_server_knows_the_wire() -> None:
    wrong = {
        f"{where}: {part} imports secret_agent_client.{imported}"
        for where, part, package, imported in _agent_imports()
        if package == "secret_agent_client"
        and (
            SOURCE_ROOTS["secret_agent_client"] / "secret_agent_client" / f"{imported}.py"
        ).exists()
        and imported not in SHARED
        and part not in SPEAKERS
    }
    assert wrong == set()


@pytest.mark.parametrize("package", ["store", "audit", "policy", "holder"])
def test_a_part_at_the_bottom_knows_nothing_of_what_serves_it(package: str) -> None:
    above = {"daemon", "server", "core", "broker", "store_access", "session", "scopes", "leases"}
    wrong = {
        f"{where}: {part} imports {imported}"
        for where, part, owner, imported in _agent_imports()
        if part == package and owner == "secret_agent" and imported in above
    }
    assert wrong == set()


def _client_imports() -> list[tuple[str, str]]:
    return [
        (f"{shown(path)}:{line}", name)
        for dotted, path in modules("secret_agent_client").items()
        for line, name in imports(path, dotted)
    ]


def test_the_client_never_imports_the_agent() -> None:
    assert [hit for hit in _client_imports() if hit[1].split(".")[0] == "secret_agent"] == []


def test_the_client_needs_the_standard_library_alone() -> None:
    """But for the helper of trio programs, which trio programs import."""
    allowed = STDLIB | {"secret_agent_client"}
    wrong = [
        (where, name)
        for where, name in _client_imports()
        if name.split(".")[0] not in allowed
        and not (name.split(".")[0] == "trio" and "/aio" in where)
    ]
    assert wrong == []


def test_every_module_of_the_client_imports_on_a_bare_python(tmp_path: Path) -> None:
    """No site-packages (-S), no environment (-I), and only client/ on the path."""
    names = [name for name in modules("secret_agent_client") if not name.endswith(".__main__")]
    names = [name for name in names if name.split(".")[1:2] != ["aio"]]
    program = "import sys, importlib; sys.path.insert(0, sys.argv[1])\n"
    program += "for name in sys.argv[2:]: importlib.import_module(name)\n"
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            program,
            str(SOURCE_ROOTS["secret_agent_client"]),
            *names,
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_importing_the_agent_reads_no_third_party_plugin() -> None:
    """Entry points are code of others: nothing of ours loads them unasked."""
    wrong = [
        (where, name)
        for where, name in _client_imports()
        + [
            (f"{shown(path)}:{line}", name)
            for dotted, path in modules("secret_agent").items()
            for line, name in imports(path, dotted)
        ]
        if name.startswith(("importlib.metadata", "pkg_resources", "importlib_metadata"))
    ]
    assert wrong == []
