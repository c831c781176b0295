"""A backup through a pipe, whose other end may be slow, gone or no such thing at all."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.core_agent import IDENTITY, RECIPIENT
from support.peer import Peer

SIZE = 200_000  # bytes of a value: more than a pipe holds


@pytest.fixture(scope="module")
def filled(shared: Agent) -> Agent:
    with shared.connect() as peer:
        peer.hello()
        for number in range(3):
            fields = {"value": bytes([number]) * SIZE}
            peer.call("set", {"name": f"one/n{number}", "fields": fields})
    return shared


@pytest.fixture
def peer(filled: Agent) -> Iterator[Peer]:
    with filled.connect() as connected:
        connected.hello()
        yield connected


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue


def read_all(reader: int) -> bytes:
    pieces = []
    while piece := os.read(reader, 65536):
        pieces.append(piece)
    return b"".join(pieces)


def begin_export(peer: Peer, writer: int) -> int:
    """Ask for a backup into a pipe, and let go of the pipe; the request's id."""
    request = peer.send("export", {"recipients": [RECIPIENT]}, descriptors=(writer,))
    os.close(writer)
    return request


def test_it_goes_through_a_pipe_both_ways(peer: Peer, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    request = begin_export(peer, writer)
    backup = read_all(reader)
    assert peer.reply(request)["ok"]["secrets"] == 3
    source, feed = os.pipe()
    feeding = threading.Thread(target=_feed, args=(feed, backup))
    feeding.start()
    try:
        told = peer.call("import", {"identity": IDENTITY}, descriptors=(source,))
    finally:
        os.close(source)
        feeding.join()
    assert told["same"] == 3


def _feed(feed: int, data: bytes) -> None:
    with open(feed, "wb", buffering=0) as out:
        view = memoryview(data)
        while view:
            view = view[out.write(view[:777]) :]


def test_a_pipe_that_nobody_reads_holds_up_nobody_else(
    filled: Agent, peer: Peer, pipe: tuple[int, int]
) -> None:
    """The store is asked for a page at a time, and never while the pipe is waited for."""
    reader, writer = pipe
    request = begin_export(peer, writer)
    os.read(reader, 1)  # it has begun, and will fill the pipe and wait
    with filled.connect() as other:
        other.hello()
        other.socket.settimeout(5)
        other.call("set", {"name": "other/a", "fields": {"value": b"x"}})
        for name in ("one/n0", "one/n1", "one/n2", "other/a"):
            assert "ok" in other.ask("get", {"name": name})
        other.call("rm", {"name": "other/a", "purge": True})
    os.close(reader)
    error = peer.reply(request)["error"]
    assert error["code"] == "unavailable"
    assert "the backup cannot be written: broken pipe" in error["message"]


def test_a_lock_ends_a_backup_that_is_under_way(tmp_path: Path) -> None:
    with Agent() as agent, agent.connect() as peer:
        agent.unlock()
        peer.hello()
        for number in range(40):
            fields = {"value": bytes([number]) * SIZE}
            peer.call("set", {"name": f"one/n{number}", "fields": fields})
        reader, writer = os.pipe()
        request = begin_export(peer, writer)
        os.read(reader, 1)
        assert agent.call("lock")["ended"] == 0
        assert agent.call("status")["state"] == "locked"
        rest = read_all(reader)
        os.close(reader)
        assert peer.reply(request)["error"]["code"] == "locked"
        assert len(rest) < 30 * SIZE  # of 40, and those in base64
        agent.unlock()


def test_a_client_that_is_gone_ends_its_backup(filled: Agent, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with filled.connect() as leaving:
        leaving.hello()
        begin_export(leaving, writer)
        os.read(reader, 1)
    read_all(reader)  # to its end: the agent has let go of the other one
    assert filled.call("status")["state"] == "unlocked"


@pytest.mark.parametrize("what", ["folder", "wrong way", "/dev/full"])
def test_a_descriptor_that_is_no_use_is_an_error(peer: Peer, tmp_path: Path, what: str) -> None:
    opened = {
        "folder": (tmp_path, os.O_RDONLY | os.O_DIRECTORY),
        "wrong way": (Path("/dev/null"), os.O_RDONLY),
        "/dev/full": (Path("/dev/full"), os.O_WRONLY),
    }[what]
    descriptor = os.open(*opened)
    try:
        error = peer.ask("export", {"recipients": [RECIPIENT]}, descriptors=(descriptor,))["error"]
        assert error["code"] == "unavailable"
        if what != "wrong way":
            error = peer.ask("import", {"identity": IDENTITY}, descriptors=(descriptor,))["error"]
            assert error["code"] in ("unavailable", "invalid")
    finally:
        os.close(descriptor)
    assert peer.call("status")["state"] == "unlocked"


def test_without_a_descriptor_the_request_says_what_it_needs(peer: Peer) -> None:
    for verb, body in (("export", {"recipients": [RECIPIENT]}), ("import", {"identity": IDENTITY})):
        error = peer.refused(verb, body)
        assert error["code"] == "invalid"
        assert "needs a descriptor" in error["message"]
