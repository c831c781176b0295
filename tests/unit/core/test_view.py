"""How things look from outside: names as CLI.md has them, nothing that has no place there."""

from dataclasses import replace
from typing import Any

import pytest

from secret_agent import view
from secret_agent.leases.table import Lease
from secret_agent.model import Ancestor, ProcessKey
from secret_agent.scopes import Scope
from secret_agent.store.records import SecretInfo
from support.core_agent import SetClock
from support.holders import holder

CLOCK = SetClock()
NOW = CLOCK.boot()


def ancestor(pid: int, exe: str) -> Ancestor:
    return Ancestor(ProcessKey(pid, 5), exe, "name", 1000, 90, None)


def lease(**more: Any) -> Lease:
    values: dict[str, Any] = {
        "secret": "payments/db",
        "stage": "",
        "version": 3,
        "fields": ("password",),
        "holder": holder(ancestry=(ancestor(95, "/usr/bin/make"), ancestor(90, "/bin/bash"))),
        "binding": "process",
        "bound": ProcessKey(100, 7),
        "scope": None,
        "channel": "env",
        "rule": "r",
        "issued": NOW,
        "expires": NOW + 60,
        "most_until": NOW + 600,
    }
    return Lease(**(values | more))


def test_a_lease_is_shown_with_the_keys_of_the_interface() -> None:
    shown = view.lease_view(lease(), CLOCK)
    promised = {
        "id", "secret", "fields", "holder", "binding", "issued_at", "expires_at", "uses_left",
        "provider_lease", "state",
    }  # fmt: skip  # as CLI.md lists them
    assert promised <= set(shown)
    assert set(shown["holder"]) == {
        "uid", "pid", "exe", "cwd", "tty", "shell", "container", "ci",
    }  # fmt: skip  # likewise
    assert shown["holder"]["shell"] == {"pid": 90, "name": "bash"}
    assert (shown["stage"], shown["bound_pid"], shown["binding"]) == (None, 100, "process")
    assert shown["issued_at"] == "2027-01-15T08:00:00Z"
    assert shown["expires_at"] == "2027-01-15T08:01:00Z"


def test_what_is_bound_to_nothing_or_to_a_scope_is_shown_so() -> None:
    session = view.lease_view(lease(binding="session", bound=None), CLOCK)
    assert (session["binding"], session["bound_pid"]) == ("session", None)
    scoped = view.lease_view(lease(scope="s-1", stage="prod"), CLOCK)
    assert (scoped["binding"], scoped["scope"], scoped["stage"]) == ("scope", "s-1", "prod")


def test_a_holder_without_a_shell_has_none() -> None:
    assert view.holder_view(holder(shell=None, shell_name=None))["shell"] is None


@pytest.mark.parametrize(
    ("bound", "pid", "exe"),
    [
        (ProcessKey(100, 7), 100, "/usr/bin/python3"),
        (ProcessKey(90, 5), 90, "/bin/bash"),
        (ProcessKey(77, 5), 77, ""),
        (None, 100, "/usr/bin/python3"),
    ],
    ids=["itself", "the shell above it", "what is no more above it", "the session"],
)
def test_who_holds_is_the_living_process_that_the_lease_ends_with(
    bound: ProcessKey | None, pid: int, exe: str
) -> None:
    shown = view.holding_view(lease(bound=bound), CLOCK)
    assert (shown["pid"], shown["exe"]) == (pid, exe)
    assert (shown["since"], shown["until"]) == ("2027-01-15T08:00:00Z", "2027-01-15T08:01:00Z")


def test_a_grant_tells_how_long_it_lasts_and_never_less_than_nothing() -> None:
    assert view.granted_view(lease(), CLOCK)["ttl_s"] == 60
    assert view.granted_view(lease(), CLOCK)["renewable"]
    over = view.granted_view(lease(expires=NOW - 5, most_until=NOW - 5), CLOCK)
    assert (over["ttl_s"], over["renewable"]) == (0, False)


def info(**more: Any) -> SecretInfo:
    values: dict[str, Any] = {
        "name": "payments/db",
        "stage": "",
        "type": "login",
        "version": 2,
        "versions": 2,
        "created_at": 0,
        "updated_at": 1,
        "field_names": ("password",),
        "note": None,
        "expires_at": None,
        "rotate_due": None,
    }
    return SecretInfo(**(values | more))


def test_times_that_are_not_set_are_null() -> None:
    shown = view.secret_view(info(), None)
    assert [shown[key] for key in ("expires_at", "rotate_due", "last_used", "note")] == [None] * 4
    assert (shown["created_at"], shown["updated_at"]) == (
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:01Z",
    )
    shown = view.secret_view(info(expires_at=60, rotate_due=61), 62.9)
    assert shown["expires_at"] == "1970-01-01T00:01:00Z"
    assert shown["last_used"] == "1970-01-01T00:01:02Z"


@pytest.mark.parametrize("beyond", [view.LAST_TIME + 1, 2**53 - 1])
def test_a_time_beyond_every_calendar_does_not_fail_the_whole_list(beyond: int) -> None:
    """A restored backup may hold any number."""
    shown = view.secret_view(info(expires_at=beyond, rotate_due=beyond, created_at=beyond), None)
    assert shown["expires_at"] == shown["rotate_due"] == "9999-12-31T23:59:59Z"


def test_a_scope_is_shown_with_what_is_left_of_it() -> None:
    scope = Scope(
        allow=("app/*",),
        deny=(),
        stage=None,
        uids=frozenset({2000, 1000}),
        maker=holder(),
        expires=NOW + 60,
        uses_left=3,
        bound=None,
        parent=None,
        socket_path="/run/app.sock",
    )
    shown = view.scope_view(scope, CLOCK, connections=1, leases=2)
    assert (shown["uids"], shown["bound"], shown["uses_left"]) == ([1000, 2000], None, 3)
    assert (shown["connections"], shown["leases"]) == (1, 2)
    bound = replace(scope, bound=ProcessKey(100, 7))
    assert view.scope_view(bound, CLOCK, connections=0, leases=0)["bound"] == {"pid": 100}
