"""The session opens, ends by lifetime or idleness on the boot clock, and slows wrong passphrases
down.
"""

import pytest

from secret_agent.session import FIRST_DELAY_S, MAX_DELAY_S, Session
from secret_agent_client.errors import LockedError


def test_a_locked_session_refuses_and_names_the_mend() -> None:
    with pytest.raises(LockedError) as caught:
        Session().check(0.0)
    assert caught.value.remedy == "secret-agent unlock"
    assert caught.value.message == "the session is locked"


def test_a_new_session_says_that_there_is_no_store() -> None:
    with pytest.raises(LockedError, match="there is no store yet"):
        Session(state="new").check(0.0)


def test_the_lifetime_ends_the_session_at_its_very_moment() -> None:
    session = Session()
    session.unlock(100.0, lifetime_s=10)
    session.check(109.999)
    with pytest.raises(LockedError):
        session.check(110.0)
    assert session.overdue(110.0) == "lifetime over"


@pytest.mark.parametrize(
    ("asked", "configured", "locks_at"), [(5, 9, 5), (9, 5, 5), (None, 5, 5), (5, None, 5)]
)
def test_the_shorter_lifetime_holds(
    asked: float | None, configured: float | None, locks_at: float
) -> None:
    session = Session(default_lifetime_s=configured)
    session.unlock(0.0, lifetime_s=asked)
    assert session.locks_at == locks_at


def test_without_limits_nothing_is_due() -> None:
    session = Session()
    session.unlock(0.0, lifetime_s=None)
    assert session.next_deadline() is None
    assert session.overdue(1e12) is None


def test_idleness_counts_from_the_last_use() -> None:
    session = Session(idle_s=60)
    session.unlock(0.0, lifetime_s=None)
    session.touch(50.0)
    session.check(109.0)
    assert session.next_deadline() == 110.0
    assert session.overdue(110.0) == "idle"


def test_locking_ends_it_once() -> None:
    session = Session(idle_s=60)
    session.unlock(0.0, lifetime_s=None)
    before = session.generation
    assert session.lock()
    assert not session.lock()
    assert session.generation == before + 1
    assert session.idle_locks_at() is None
    assert session.overdue(1e9) is None


def test_each_failure_waits_twice_as_long_up_to_a_limit_and_success_forgives() -> None:
    session = Session()
    waits = []
    for _ in range(8):
        session.failed(0.0)
        waits.append(session.next_try_at)
    assert waits[:3] == [FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S]
    assert waits[-1] == MAX_DELAY_S
    session.unlock(0.0, lifetime_s=None)
    assert (session.failures, session.next_try_at) == (0, 0.0)
