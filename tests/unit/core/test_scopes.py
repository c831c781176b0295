"""A scope can do no more than it says, nor than what it was made through; and it ends with it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent import scopes as module
from secret_agent.scopes import Scope, ScopeTable
from secret_agent_client.errors import DeniedError, ExpiredError, NotFoundError
from support.holders import holder


def scope(**more: Any) -> Scope:
    values: dict[str, Any] = {
        "allow": ("app/*",),
        "deny": (),
        "stage": None,
        "uids": frozenset({1000}),
        "maker": holder(),
        "expires": 100.0,
        "uses_left": None,
        "bound": None,
        "parent": None,
        "socket_path": "/run/s",
    }
    return Scope(**(values | more))


def table_of(*scopes: Scope) -> ScopeTable:
    table = ScopeTable()
    for each in scopes:
        table.add(each)
    return table


@pytest.mark.parametrize(
    ("name", "stage", "permitted"),
    [
        ("app/db", "", True),
        ("app/db", "prod", False),
        ("app/deep/db", "", False),
        ("other/db", "", False),
        ("app/root", "", False),
        ("app", "", False),
    ],
)
def test_a_scope_permits_what_it_says(name: str, stage: str, permitted: bool) -> None:  # noqa: FBT001  # a table's column
    one = scope(deny=("app/root",), stage="")
    assert table_of(one).permits(one.id, name, stage) is permitted


def test_a_deny_covers_what_lies_below_it() -> None:
    one = scope(allow=("**",), deny=("app",))
    assert not table_of(one).permits(one.id, "app/deep/db", "")


def test_any_stage_is_permitted_where_none_is_said() -> None:
    one = scope()
    assert table_of(one).permits(one.id, "app/db", "prod")


_GLOBS = st.lists(
    st.sampled_from(["**", "app/*", "app/db", "*/db", "a*/**"]), min_size=1, max_size=3
)
_NAMES = st.sampled_from(["app/db", "app/api", "db", "web/db", "app/x/y"])
_STAGES = st.sampled_from(["", "prod", None])


@given(_GLOBS, _GLOBS, _GLOBS, _STAGES, _STAGES, _NAMES, st.sampled_from(["", "prod"]))
def test_a_scope_is_never_wider_than_what_it_was_made_through(
    outer_allow: list[str],
    inner_allow: list[str],
    inner_deny: list[str],
    outer_stage: str | None,
    inner_stage: str | None,
    name: str,
    stage: str,
) -> None:
    outer = scope(allow=tuple(outer_allow), stage=outer_stage)
    inner = scope(
        allow=tuple(inner_allow), deny=tuple(inner_deny), stage=inner_stage, parent=outer.id
    )
    table = table_of(outer, inner)
    if table.permits(inner.id, name, stage):
        assert table.permits(outer.id, name, stage)


def test_time_left_is_that_of_the_shortest_ancestor() -> None:
    outer = scope(expires=50.0)
    inner = scope(expires=90.0, parent=outer.id)
    table = table_of(outer, inner)
    assert table.remaining_s(inner.id, 10.0) == 40.0
    with pytest.raises(ExpiredError):
        table.remaining_s(inner.id, 50.0)


def test_uses_are_taken_from_every_level_or_from_none() -> None:
    outer = scope(uses_left=1)
    inner = scope(uses_left=5, parent=outer.id)
    table = table_of(outer, inner)
    table.spend(inner.id)
    assert (outer.uses_left, inner.uses_left) == (0, 4)
    with pytest.raises(ExpiredError):
        table.spend(inner.id)
    assert inner.uses_left == 4


def test_one_more_level_can_be_made_and_no_third() -> None:
    outer = scope()
    inner = scope(parent=outer.id)
    table = table_of(outer, inner)
    with pytest.raises(DeniedError):
        table.add(scope(parent=inner.id))


def test_a_scope_ends_with_all_that_were_made_through_it_and_twice_is_nothing() -> None:
    outer, other = scope(), scope()
    inner = scope(parent=outer.id)
    table = table_of(outer, inner, other)
    assert table.remove(outer.id) == [outer, inner]
    assert table.remove(outer.id) == []
    assert list(table) == [other]
    with pytest.raises(NotFoundError):
        table.lineage(inner.id)


def test_what_is_over_is_told() -> None:
    one, two = scope(expires=5.0), scope(expires=9.0)
    table = table_of(one, two)
    assert table.next_expiry() == 5.0
    assert table.expired(5.0) == [one]
    assert ScopeTable().next_expiry() is None


def test_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SCOPES", 1)
    table = table_of(scope())
    with pytest.raises(DeniedError, match="scopes already"):
        table.add(scope())
    assert len(table) == 1
