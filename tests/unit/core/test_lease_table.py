"""Leases end at the earliest of what may end them, and renewal never passes the maximum."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from secret_agent.leases.table import Lease, LeaseTable
from secret_agent.model import ProcessKey
from secret_agent_client.errors import ExpiredError, InvalidError, NotFoundError
from support.holders import holder


def lease(**more: Any) -> Lease:
    values: dict[str, Any] = {
        "secret": "payments/db",
        "stage": "",
        "version": 1,
        "fields": ("password",),
        "holder": holder(),
        "binding": "process",
        "bound": ProcessKey(100, 7),
        "scope": None,
        "channel": "library",
        "rule": "r",
        "issued": 0.0,
        "expires": 10.0,
        "most_until": 60.0,
    }
    return Lease(**(values | more))


def test_a_lease_is_found_by_id_grant_process_and_scope() -> None:
    table, one = LeaseTable(), lease(scope="s-1")
    assert table.add(one)
    assert table.get(one.id) is one
    assert table.find(one.key) is one
    assert table.of_process(ProcessKey(100, 7)) == [one]
    assert table.of_scope("s-1") == [one]
    assert list(table) == [one]


def test_only_the_first_and_last_lease_of_a_process_change_its_watching() -> None:
    table, one, two = LeaseTable(), lease(), lease(secret="other")
    assert (table.add(one), table.add(two)) == (True, False)
    assert (table.remove(one, "revoked"), table.remove(two, "revoked")) == (False, True)
    assert not table.add(lease(bound=None))


def test_an_unknown_id_is_not_found_with_the_mend() -> None:
    with pytest.raises(NotFoundError) as caught:
        LeaseTable().get("l-0")
    assert caught.value.remedy == "secret-agent leases"


def test_what_is_over_is_returned_once_it_is_over() -> None:
    table, one = LeaseTable(), lease()
    table.add(one)
    assert table.expired(9.99) == []
    assert table.next_expiry() == 10.0
    assert table.expired(10.0) == [one]
    table.remove(one, "expired")
    assert table.next_expiry() is None


def test_a_prolonged_lease_does_not_end_at_its_old_time() -> None:
    table, one = LeaseTable(), lease()
    table.add(one)
    table.renew(one.id, 5.0, ttl_s=20)
    assert table.expired(10.0) == []
    assert table.expired(25.0) == [one]


@pytest.mark.parametrize(
    ("now", "ttl_s", "expires"),
    [(9.999, 10**18, 60.0), (5.0, 20, 25.0), (5.0, None, 15.0), (5.0, 1, 10.0), (9.999, 51, 60.0)],
)
def test_renewal_prolongs_up_to_the_maximum_and_never_shortens(
    now: float, ttl_s: float | None, expires: float
) -> None:
    """CVE-2021-32923: a renewal in the last second made a lease that never ended."""
    table, one = LeaseTable(), lease()
    table.add(one)
    assert table.renew(one.id, now, ttl_s=ttl_s).expires == expires


@pytest.mark.parametrize("ttl_s", [0, -1, -(10**18)])
def test_renewal_by_nothing_or_less_is_refused(ttl_s: float) -> None:
    table, one = LeaseTable(), lease()
    table.add(one)
    with pytest.raises(InvalidError):
        table.renew(one.id, 5.0, ttl_s=ttl_s)
    assert one.expires == 10.0


@pytest.mark.parametrize("now", [10.0, 11.0, 60.0])
def test_a_lease_that_is_over_cannot_be_renewed(now: float) -> None:
    table, one = LeaseTable(), lease()
    table.add(one)
    with pytest.raises(ExpiredError):
        table.renew(one.id, now, ttl_s=5)


@given(
    st.lists(st.tuples(st.floats(0, 59.9), st.one_of(st.none(), st.floats(1, 1e18))), max_size=20)
)
def test_no_series_of_renewals_passes_the_maximum(steps: list[tuple[float, float | None]]) -> None:
    table, one = LeaseTable(), lease()
    table.add(one)
    for now, ttl_s in sorted(steps, key=lambda step: step[0]):
        if now < one.expires:
            before = one.expires
            assert before <= table.renew(one.id, now, ttl_s=ttl_s).expires <= one.most_until


def test_asking_again_prolongs_the_same_lease() -> None:
    table, one = LeaseTable(), lease()
    table.add(one)
    table.use(one, 8.0, ttl_s=10.0, most_s=60.0)
    assert (one.expires, one.most_until) == (18.0, 68.0)


def test_counted_uses_run_out_and_do_not_prolong() -> None:
    table, one = LeaseTable(), lease(uses_left=1)
    table.add(one)
    table.use(one, 8.0, ttl_s=10.0, most_s=60.0)
    assert (one.uses_left, one.expires) == (0, 10.0)
    with pytest.raises(ExpiredError) as caught:
        table.use(one, 8.0, ttl_s=10.0, most_s=60.0)
    assert caught.value.rule == "r"


@pytest.mark.parametrize(
    ("criteria", "chosen"),
    [
        ({"secret": "payments/*"}, {"payments/db", "payments/api"}),
        ({"secret": "payments/db"}, {"payments/db"}),
        ({"pid": 200}, {"payments/api"}),
        ({"pid": 201}, {"payments/api"}),
        ({"scope": "s-9"}, {"other"}),
        ({"everything": True}, {"payments/db", "payments/api", "other"}),
        ({}, set()),
        ({"ids": ["l-none"]}, set()),
    ],
)
def test_leases_are_chosen_by_what_is_said(criteria: dict[str, Any], chosen: set[str]) -> None:
    table = LeaseTable()
    table.add(lease())
    table.add(lease(secret="payments/api", holder=holder(200), bound=ProcessKey(201, 1)))
    table.add(lease(secret="other", scope="s-9", bound=None))
    assert {each.secret for each in table.select(**criteria)} == chosen


class TableMachine(RuleBasedStateMachine):
    """Any order of entering, renewing, ending and passing time agrees with a plain list."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.table = LeaseTable()
        self.alive: dict[str, Lease] = {}
        self.now = 0.0

    @rule(
        target=leases,
        pid=st.integers(1, 3),
        name=st.sampled_from(["a", "b"]),
        ttl=st.integers(1, 9),
    )
    def add(self, pid: int, name: str, ttl: int) -> Lease:
        one = lease(
            secret=name,
            bound=ProcessKey(pid, 1),
            issued=self.now,
            expires=self.now + ttl,
            most_until=self.now + 20,
        )
        self.table.add(one)
        self.alive[one.id] = one
        return one

    @rule(one=leases)
    def remove(self, one: Lease) -> None:
        if self.alive.pop(one.id, None) is not None:
            self.table.remove(one, "revoked")

    @rule(one=leases, ttl=st.integers(1, 50))
    def renew(self, one: Lease, ttl: int) -> None:
        if one.id in self.alive:
            self.table.renew(one.id, self.now, ttl_s=ttl)

    @rule(step=st.integers(1, 6))
    def pass_time(self, step: int) -> None:
        self.now += step
        over = {each.id for each in self.table.expired(self.now)}
        assert over == {each.id for each in self.alive.values() if each.expires <= self.now}
        for lease_id in over:
            self.table.remove(self.alive.pop(lease_id), "expired")

    @invariant()
    def the_indexes_agree(self) -> None:
        assert {each.id for each in self.table} == set(self.alive)
        for pid in (1, 2, 3):
            of_process = {each.id for each in self.table.of_process(ProcessKey(pid, 1))}
            expected = {each.id for each in self.alive.values() if each.bound == ProcessKey(pid, 1)}
            assert of_process == expected

    @invariant()
    def nothing_outlives_its_maximum(self) -> None:
        assert all(each.expires <= each.most_until for each in self.alive.values())

    @invariant()
    def the_next_expiry_is_never_late(self) -> None:
        following = self.table.next_expiry()
        if self.alive:
            assert following is not None
            assert following <= min(each.expires for each in self.alive.values())


test_the_table_agrees_with_a_plain_list = TableMachine.TestCase
