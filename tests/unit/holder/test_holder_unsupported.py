"""Where peers cannot be told, nobody is served, and the message says why."""

import sys
from collections.abc import Callable

import pytest

from secret_agent.holder import unsupported
from secret_agent_client.errors import UnavailableError


@pytest.mark.parametrize(
    "ask",
    [
        lambda: unsupported.Peer.from_socket(None, own=None),
        unsupported.Namespaces.own,
        lambda: unsupported.open_pidfd(None),
    ],
    ids=["peer", "namespaces", "pidfd"],
)
def test_every_question_is_refused(
    ask: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UnavailableError, match="cannot be identified on darwin; this needs Linux"):
        ask()
