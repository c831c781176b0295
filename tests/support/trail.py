"""The audit trail as it is written: a test waits for the record of an event instead of sleeping."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.agent import Home
from support.peer import Peer


class Trail:
    """Records from now on, each seen once."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def wait_for(self, **wanted: Any) -> dict[str, Any]:
        """The next record that has all these fields; the peer's deadline bounds the wait."""
        while True:
            event = self._peer.next_event()
            record: dict[str, Any] = event["body"]
            if event["event"] == "audit" and wanted.items() <= record.items():
                return record


@contextmanager
def following(home: Home) -> Iterator[Trail]:
    """Follow the audit log of the agent that runs in that home."""
    with home.connect() as peer:
        peer.hello()
        peer.call("events", {"audit": True})
        yield Trail(peer)
