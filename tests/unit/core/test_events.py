"""A listener hears of its own leases, of the session and the agent, and of nobody else's secret."""

from typing import Any

import pytest

from secret_agent.events import EventHub, Listener
from secret_agent.leases.table import Lease
from secret_agent.model import ProcessKey
from support.holders import holder

HOLDER, SHELL, OTHER = ProcessKey(100, 7), ProcessKey(90, 5), ProcessKey(300, 9)


class Heard:
    """A listener that remembers what it was told."""

    def __init__(
        self, hub: EventHub, process: ProcessKey, scope: str | None = None, *, audit: bool = False
    ) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.listener = Listener(process, scope, self._push, audit)
        hub.add(self.listener)

    def _push(self, event: str, body: dict[str, Any]) -> None:
        self.events.append((event, body))


def lease(scope: str | None = None) -> Lease:
    return Lease(
        secret="payments/db",
        stage="",
        version=1,
        fields=("password",),
        holder=holder(),
        binding="shell",
        bound=SHELL,
        scope=scope,
        channel="env",
        rule=None,
        issued=0.0,
        expires=1.0,
        most_until=1.0,
    )


@pytest.fixture
def hub() -> EventHub:
    return EventHub()


@pytest.mark.parametrize("scope", [None, "s-1"])
def test_the_end_of_a_lease_is_told_to_its_holder_and_to_what_it_is_bound_to(
    hub: EventHub, scope: str | None
) -> None:
    told = [Heard(hub, HOLDER, scope), Heard(hub, SHELL, scope)]
    untold = [Heard(hub, OTHER, scope), Heard(hub, HOLDER, "s-2"), Heard(hub, OTHER, audit=True)]
    ended = lease(scope)
    hub.lease_ended(ended, "revoked")
    body = {"lease": ended.id, "secret": "payments/db", "why": "revoked"}
    assert [each.events for each in told] == [[("lease-ended", body)]] * 2
    assert [each.events for each in untold] == [[]] * 3


def test_the_same_process_hears_through_a_scope_what_is_the_scope_s_alone(hub: EventHub) -> None:
    control, scoped = Heard(hub, HOLDER), Heard(hub, HOLDER, "s-1")
    hub.lease_ended(lease("s-1"), "revoked")
    assert (len(control.events), len(scoped.events)) == (0, 1)


def test_the_end_of_a_scope_is_told_to_its_maker(hub: EventHub) -> None:
    maker, other = Heard(hub, HOLDER), Heard(hub, OTHER)
    hub.scope_ended("s-1", HOLDER, "expired")
    assert maker.events == [("scope-ended", {"scope": "s-1", "why": "expired"})]
    assert other.events == []


def test_the_session_and_the_agent_are_everybody_s(hub: EventHub) -> None:
    listeners = [Heard(hub, HOLDER), Heard(hub, OTHER, "s-1")]
    hub.everybody("session-locked", {"why": "idle"})
    assert [each.events for each in listeners] == [[("session-locked", {"why": "idle"})]] * 2


def test_the_audit_log_is_told_to_those_alone_who_follow_it(hub: EventHub) -> None:
    hub.audited(b"this is parsed only where somebody listens")
    plain, following = Heard(hub, HOLDER), Heard(hub, OTHER, audit=True)
    hub.audited(b'{"seq": 1, "action": "read"}')
    assert plain.events == []
    assert following.events == [("audit", {"seq": 1, "action": "read"})]


def test_who_has_left_hears_nothing_and_may_leave_twice(hub: EventHub) -> None:
    gone = Heard(hub, HOLDER, audit=True)
    hub.remove(gone.listener)
    hub.remove(gone.listener)
    hub.everybody("agent-stopping", {})
    hub.audited(b"no JSON")
    assert gone.events == []


def test_who_leaves_while_it_is_told_does_no_harm(hub: EventHub) -> None:
    """Telling may find that a listener is too far behind, and close it."""
    told: list[str] = []
    listeners: list[Listener] = []

    def leave(event: str, _body: dict[str, Any]) -> None:
        told.append(event)
        for each in listeners:
            hub.remove(each)

    listeners += [Listener(HOLDER, None, leave), Listener(HOLDER, None, leave)]
    for each in listeners:
        hub.add(each)
    hub.lease_ended(lease(), "locked")
    hub.scope_ended("s-1", HOLDER, "locked")
    hub.everybody("session-locked", {})
    assert told == ["lease-ended", "lease-ended"]
