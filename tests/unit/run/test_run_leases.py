"""Leases are renewed while they can be, lost when told so, and given back at the end."""

from collections import deque
from typing import Any

import pytest

from secret_agent_client.errors import (
    DeniedError,
    ExpiredError,
    NoAgentError,
    SecretAgentError,
    UnavailableError,
)
from secret_agent_client.run_leases import OVERDUE_S, RETRY_S, Leases, Loss


class Agent:
    """Says what it was told to say; each request is kept."""

    def __init__(self) -> None:
        self.events: deque[dict[str, Any] | SecretAgentError] = deque()
        self.renewals: deque[float | dict[str, Any] | SecretAgentError] = deque()
        self.asked: list[tuple[str, Any]] = []
        self.release_fails = False
        self.descriptor = 77

    def fileno(self) -> int:
        return self.descriptor

    def call(
        self, verb: str, body: dict[str, Any] | None = None, *, deadline_s: float = 30.0
    ) -> dict[str, Any]:
        self.asked.append((verb, body))
        if verb == "release" and self.release_fails:
            raise NoAgentError("gone")
        if verb not in ("renew", "get"):
            return {}
        answer = self.renewals.popleft()
        if isinstance(answer, SecretAgentError):
            raise answer
        return answer if isinstance(answer, dict) else {"id": "x", "ttl_s": answer}

    def next_event(self, timeout_s: float) -> dict[str, Any] | None:
        if not self.events:
            return None
        event = self.events.popleft()
        if isinstance(event, SecretAgentError):
            raise event
        return event

    def end(self, lease: str, why: str) -> None:
        body = {"lease": lease, "secret": "told/by-agent", "why": why}
        self.events.append({"event": "lease-ended", "body": body})


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
def leases(agent: Agent) -> Leases:
    """Two leases of 90 s, held at 1000; the first can be renewed."""
    made = Leases(agent)
    made.hold("a/one", {"id": "l-1", "ttl_s": 90, "renewable": True}, 1000)
    made.hold("a/two", {"id": "l-2", "ttl_s": 90, "renewable": False}, 1000)
    return made


class TestRenewal:
    def test_it_is_due_at_two_thirds_of_the_term(self, agent: Agent, leases: Leases) -> None:
        assert leases.deadline == 1060
        assert leases.take(1059) == []
        assert agent.asked == []
        agent.renewals.append(90)
        assert leases.take(1060) == []
        assert agent.asked == [("renew", {"lease": "l-1", "ttl_s": 90})]

    def test_it_goes_on_until_the_agent_prolongs_no_more(
        self, agent: Agent, leases: Leases
    ) -> None:
        agent.end("l-2", "released")
        agent.renewals += [90, 40, 10]
        leases.take(1060)  # until 1150
        assert leases.deadline == 1120
        leases.take(1120)  # 40 s from here: until 1160
        assert leases.deadline == pytest.approx(1146.67, abs=0.01)
        leases.take(1150)  # 10 s from here: until 1160 again
        assert leases.deadline == 1160 + OVERDUE_S
        assert agent.renewals == deque()

    def test_a_refusal_ends_the_trying_and_is_no_loss_yet(
        self, agent: Agent, leases: Leases
    ) -> None:
        agent.renewals.append(ExpiredError("that lease is over"))
        assert leases.take(1060) == []
        assert leases.deadline == 1090 + OVERDUE_S

    def test_an_agent_that_is_busy_is_asked_again(self, agent: Agent, leases: Leases) -> None:
        agent.renewals += [UnavailableError("busy"), 90]
        leases.take(1060)
        assert leases.deadline == 1060 + RETRY_S
        leases.take(1061)
        assert [verb for verb, _ in agent.asked] == ["renew", "renew"]

    def test_once_the_term_is_over_a_busy_agent_is_asked_no_more(
        self, agent: Agent, leases: Leases
    ) -> None:
        agent.renewals.append(UnavailableError("busy"))
        leases.take(1090)
        assert leases.deadline == 1090 + OVERDUE_S


AGAIN = {"name": "a/one", "version": 3}


class TestAskingAgain:
    """At the rule's maximum the same version is asked for again: a new decision."""

    @staticmethod
    def answer(agent: Agent, *leases: dict[str, Any] | SecretAgentError) -> None:
        agent.renewals.extend(
            each if isinstance(each, SecretAgentError) else {"lease": each} for each in leases
        )

    def held(self, agent: Agent, **more: Any) -> Leases:
        made = Leases(agent)
        lease = {"id": "l-1", "ttl_s": 90, "renewable": False, **more}
        made.hold("a/one", lease, 1000, again=AGAIN)
        return made

    def test_a_yes_is_a_new_term(self, agent: Agent) -> None:
        leases = self.held(agent)
        agent.renewals.append(30)  # the maximum: it ends when it would have ended
        self.answer(agent, {"id": "l-1", "ttl_s": 90, "renewable": False})
        assert leases.take(1060) == []
        assert agent.asked[-1] == ("get", AGAIN)
        assert leases.deadline == 1120

    def test_another_lease_takes_the_place_of_the_first(self, agent: Agent) -> None:
        leases = self.held(agent)
        agent.renewals.append(30)
        self.answer(agent, {"id": "l-2", "ttl_s": 90, "renewable": False})
        leases.take(1060)
        assert leases.ids == ["l-2"]

    def test_a_no_is_heard_of_at_the_end_of_the_term(self, agent: Agent) -> None:
        leases = self.held(agent)
        agent.renewals.append(30)
        self.answer(agent, DeniedError("no more"))
        assert leases.take(1060) == []
        assert leases.deadline == 1090 + OVERDUE_S

    def test_a_term_that_is_no_longer_is_not_insisted_on(self, agent: Agent) -> None:
        leases = self.held(agent)
        agent.renewals.append(30)
        self.answer(agent, {"id": "l-1", "ttl_s": 30, "renewable": False})
        leases.take(1060)
        assert leases.deadline == 1090 + OVERDUE_S

    def test_counted_uses_are_not_spent_on_it(self, agent: Agent) -> None:
        leases = self.held(agent, uses_left=5)
        assert leases.deadline == 1090 + OVERDUE_S


class TestLoss:
    @pytest.mark.parametrize("why", ["expired", "revoked", "locked", "scope-ended", "shell-gone"])
    def test_the_end_of_a_lease_of_ours_is_one(
        self, agent: Agent, leases: Leases, why: str
    ) -> None:
        agent.end("l-1", why)
        assert leases.take(1001) == [Loss("a/one", why)]
        assert leases.ids == ["l-2"]

    @pytest.mark.parametrize("why", ["used-up", "released"])
    def test_what_takes_nothing_away_is_none(self, agent: Agent, leases: Leases, why: str) -> None:
        agent.end("l-1", why)
        assert leases.take(1001) == []

    def test_the_end_of_a_lease_of_others_is_none(self, agent: Agent, leases: Leases) -> None:
        agent.end("l-9", "revoked")
        agent.events.append({"event": "session-locked", "body": {"why": "idle"}})
        agent.events.append({"event": "something-new", "body": {}})
        agent.events.append({"event": "audit"})
        assert leases.take(1001) == []

    def test_an_agent_that_stops_takes_all(self, agent: Agent, leases: Leases) -> None:
        agent.events.append({"event": "agent-stopping", "body": {}})
        assert leases.take(1001) == [Loss(None, "the agent stops")]
        assert leases.fileno() is None
        assert leases.deadline is None
        assert leases.take(9999) == []

    def test_an_agent_that_is_gone_takes_all(self, agent: Agent, leases: Leases) -> None:
        agent.events.append(NoAgentError("closed"))
        assert leases.take(1001) == [Loss(None, "the agent is gone")]

    def test_a_connection_that_was_cut_off_is_noticed_at_once(
        self, agent: Agent, leases: Leases
    ) -> None:
        """The deadline of a request passed, so that the connection was closed on our side."""
        agent.descriptor = -1
        assert leases.fileno() is None
        assert leases.deadline == 0
        agent.events.append(NoAgentError("closed"))
        assert leases.take(1001) == [Loss(None, "the agent is gone")]

    def test_an_agent_that_goes_after_all_was_lost_says_nothing_new(
        self, agent: Agent, leases: Leases
    ) -> None:
        agent.end("l-1", "revoked")
        agent.end("l-2", "revoked")
        assert len(leases.take(1001)) == 2
        agent.events.append(NoAgentError("closed"))
        assert leases.take(1002) == []

    def test_a_lease_whose_end_is_never_told_is_lost_a_little_later(self, leases: Leases) -> None:
        leases.forget()
        leases.hold("a/two", {"id": "l-2", "ttl_s": 90, "renewable": False}, 1000)
        assert leases.take(1090 + OVERDUE_S) == []
        assert leases.take(1090.1 + OVERDUE_S) == [Loss("a/two", "expired")]


class TestRelease:
    def test_all_are_given_back_once(self, agent: Agent, leases: Leases) -> None:
        leases.release()
        leases.release()
        assert agent.asked == [("release", {"leases": ["l-1", "l-2"]})]

    def test_very_many_go_in_parts(self, agent: Agent, leases: Leases) -> None:
        leases.release([f"l-{n}" for n in range(300)])
        assert [len(body["leases"]) for _, body in agent.asked] == [256, 44]

    def test_an_agent_that_does_not_hear_it_is_no_error(self, agent: Agent, leases: Leases) -> None:
        agent.release_fails = True
        leases.release()
        assert leases.fileno() is None

    def test_without_an_agent_there_is_nothing_to_do(self) -> None:
        leases = Leases(None)
        leases.release()
        assert (leases.fileno(), leases.deadline, leases.take(5)) == (None, None, [])
