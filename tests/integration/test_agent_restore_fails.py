"""A restore that fails half-way has restored nothing, and none goes on without its records."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from secret_agent import transfer
from secret_agent.broker import Broker
from secret_agent.core import Agent
from secret_agent.store import Store
from secret_agent.transfer import export_backup, import_backup
from secret_agent_client.errors import InvalidError, LockedError, SecretAgentError, UnavailableError
from support.core_agent import IDENTITY, RECIPIENT, caller, get, put, running, unlock

NAMES = [f"one/n{number}" for number in range(6)]


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with running(tmp_path) as started:
        await unlock(started)
        for name in NAMES:
            await put(started, name, b"backed up")
        yield started


@pytest.fixture
async def backup(agent: Agent, tmp_path: Path) -> Path:
    """A backup of everything; each secret has changed since."""
    path = tmp_path / "backup"
    with path.open("wb") as out:
        await export_backup(agent, caller(), out.fileno(), [RECIPIENT], None)
    for name in NAMES:
        await put(agent, name, b"changed")
    return path


async def restore(agent: Agent, backup: Path) -> dict[str, Any]:
    with backup.open("rb") as source:
        return await import_backup(agent, caller(), source.fileno(), {"identity": IDENTITY})


async def values(agent: Agent) -> set[bytes]:
    return {(await get(agent, name)).fields["value"].reveal() for name in NAMES}


@pytest.mark.parametrize("method", ["put", "get"])
async def test_where_one_fails_none_is_restored(
    agent: Agent, backup: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    plain, calls = getattr(Store, method), []

    def fail_at_fourth(*args: Any, **more: Any) -> Any:
        calls.append(args)
        if len(calls) == 4:
            raise UnavailableError("the disk is full")
        return plain(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Store, method, fail_at_fourth)
        with pytest.raises(UnavailableError, match="the disk is full"):
            await restore(agent, backup)
    assert await values(agent) == {b"changed"}
    assert (await restore(agent, backup))["updated"] == len(NAMES)
    assert await values(agent) == {b"backed up"}


async def test_what_is_restored_is_in_memory_in_bounds(
    agent: Agent, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(NAMES) * len(b"backed up")
    monkeypatch.setattr(transfer, "MAX_RESTORED", size - 1)
    with pytest.raises(InvalidError, match=f"the backup holds more than {size - 1} bytes"):
        await restore(agent, backup)
    assert await values(agent) == {b"changed"}
    monkeypatch.setattr(transfer, "MAX_RESTORED", size)
    await restore(agent, backup)


async def test_what_cannot_be_recorded_is_neither_backed_up_nor_restored(
    agent: Agent, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = agent.record

    async def fail(fields: dict[str, Any]) -> None:
        if fields.get("secret") == NAMES[3]:
            raise UnavailableError("the audit log cannot be written")
        await written(fields)

    monkeypatch.setattr(agent, "record", fail)
    monkeypatch.setattr(agent.broker, "record", fail)
    other = tmp_path / "other"
    with other.open("wb") as out, pytest.raises(UnavailableError):
        await export_backup(agent, caller(), out.fileno(), [RECIPIENT], None)
    assert other.read_bytes() == b""
    with pytest.raises(UnavailableError):
        await restore(agent, backup)
    monkeypatch.undo()
    assert await values(agent) == {b"changed"}


async def test_more_secrets_than_share_a_sync_are_all_recorded(
    agent: Agent, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "BATCH", 2)
    monkeypatch.setattr(transfer, "PAGE", 4)
    before = agent.audit.records
    with (tmp_path / "other").open("wb") as out:
        told = await export_backup(agent, caller(), out.fileno(), [RECIPIENT], None)
    assert told == {"secrets": len(NAMES), "left_out": 0}
    assert agent.audit.records == before + len(NAMES) + 1
    await restore(agent, tmp_path / "other")
    assert agent.audit.records == before + 2 * len(NAMES) + 1


async def test_locked_nothing_is_backed_up_or_restored(
    agent: Agent, backup: Path, tmp_path: Path
) -> None:
    await agent.lock("a test")
    with (tmp_path / "other").open("wb") as out, pytest.raises(LockedError):
        await export_backup(agent, caller(), out.fileno(), [RECIPIENT], None)
    with pytest.raises(LockedError):
        await restore(agent, backup)


async def test_a_bug_stays_a_bug(
    agent: Agent, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for a refusal: the connection reports it, and answers an internal error."""

    async def fail(*_: Any, **_more: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Broker, "allow", fail)
    with pytest.raises(BaseExceptionGroup) as caught:
        await restore(agent, backup)
    assert caught.group_contains(ZeroDivisionError)
    assert not caught.group_contains(SecretAgentError)
