"""What a holder of a scoped socket tries, beyond what its container tests show."""

import socket
from pathlib import Path

import pytest

from support.agent import Agent
from support.peer import Peer


def listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


def test_a_nested_scope_cannot_have_the_agent_unlink_a_socket_of_the_host(unlocked: Agent) -> None:
    """A container binds a path that on the host is the agent's own socket: another file there."""
    outer = listening(unlocked.path / "outer.sock")
    with unlocked.connect() as maker:
        maker.hello()
        maker.call("delegate", {"allow": ["**"]}, descriptors=(outer.fileno(),))
        outer.close()
        elsewhere = unlocked.path / "elsewhere.sock"
        inner = listening(elsewhere)
        with Peer(unlocked.path / "outer.sock") as scoped:
            scoped.hello()
            made = scoped.call("delegate", {"allow": ["**"]}, descriptors=(inner.fileno(),))
        inner.close()
        # The same name as the kernel tells it, standing for another file when the scope ends.
        maker.call("events", {"audit": True})
        maker.call("revoke", {"leases": [made["id"]]})
        while maker.next_event()["body"].get("scope") != made["id"]:
            pass
    assert elsewhere.exists()


def test_a_scopes_socket_is_unlinked_when_it_ends_and_nothing_else_in_its_place(
    unlocked: Agent,
) -> None:
    path = unlocked.path / "scope.sock"
    made = listening(path)
    with unlocked.connect() as maker:
        maker.hello()
        scope = maker.call("delegate", {"allow": ["a/*"]}, descriptors=(made.fileno(),))["id"]
        made.close()
        with Peer(path) as scoped:
            scoped.hello()
            maker.call("revoke", {"leases": [scope]})
            assert scoped.is_closed()
        assert maker.call("scopes")["scopes"] == []
    unlocked.call("lock")
    assert not path.exists()


def test_a_descriptor_too_many_or_none_is_no_way_in(unlocked: Agent) -> None:
    made = listening(unlocked.path / "s.sock")
    with unlocked.connect() as peer:
        peer.hello()
        assert "needs a descriptor" in peer.refused("delegate", {"allow": ["**"]})["message"]
        peer.call("status", descriptors=(made.fileno(), made.fileno()))
        assert "needs a descriptor" in peer.refused("delegate", {"allow": ["**"]})["message"]
        with Path("/dev/null").open("rb") as file:
            reply = peer.ask("delegate", {"allow": ["**"]}, descriptors=(file.fileno(),))
        assert reply["error"]["message"] == "the descriptor sent is not a socket"
    made.close()


@pytest.mark.root  # the agent is not dumpable: nobody else sees its descriptors
def test_a_thousand_descriptors_leave_none_behind(unlocked: Agent) -> None:
    def descriptors() -> int:
        return len(list(Path(f"/proc/{unlocked.pid}/fd").iterdir()))

    with unlocked.connect() as peer, Path("/dev/null").open("rb") as file:
        peer.hello()
        peer.call("status")
        before = descriptors()
        for _ in range(250):
            peer.call("status", descriptors=(file.fileno(),) * 4)
        assert descriptors() <= before + 1
