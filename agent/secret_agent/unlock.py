"""Open the session: by a passphrase or by the key in the OS keyring; one attempt at a time, wrong
ones ever slower.

The order matters: the store is verified whole before the session opens, and the session opens only
when the store is open.  A keyring is asked before the turn is taken: one that waits for a person
keeps nobody from giving a passphrase.  Entering the keyring's key into a store that a passphrase
opened is a decision of its own, recorded, and prolongs nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from secret_agent.broker import Caller
from secret_agent.core import Agent
from secret_agent.keyring_key import DEADLINE_S, read_key, read_or_make_key
from secret_agent.model import Holder
from secret_agent.store_access import OPEN_DEADLINE_S, Opening
from secret_agent.threads import new_limiter, run_blocking
from secret_agent_client.errors import (
    DeniedError,
    InvalidError,
    LockedError,
    NotFoundError,
    UsageError,
)

if TYPE_CHECKING:  # importing the store costs its cryptography, which `start` need not wait for
    from secret_agent.store.database import Store

_keyring_threads = new_limiter(2)  # a keyring that hangs costs these two and no more


async def unlock_store(
    agent: Agent,
    holder: Holder,
    *,
    passphrase: bytes | None,
    keyring: bool,
    create: bool,
    lifetime_s: int | None,
) -> tuple[bool, str]:
    """(created, how): open the session, or prove the right to it again where it is open.

    Raises DeniedError (wrong passphrase), LockedError (no store and not asked to make one),
    UsageError, InvalidError (tampering, named), UnavailableError.
    """
    if not keyring and not passphrase:
        raise UsageError("unlock needs a passphrase of at least one byte, or the keyring")
    await agent.sweep()  # what is overdue is locked, and not to be prolonged
    locks = agent.store.locks
    key = await _key_of(agent, create=create) if keyring else None
    try:
        async with agent.unlocking:
            await _wait_after_failures(agent)
            created = _is_new(agent)
            if created and not create:
                raise _no_store()
            attempt = _Attempt(agent, holder, locks, created=created)
            if key is None:
                proved = await attempt.with_passphrase(passphrase or b"")
            else:
                proved = await attempt.with_key(key)
            how = "passphrase" if key is None else "keyring"
            agent.store.check_not_locked_since(locks)
            if proved:
                agent.opened(lifetime_s=lifetime_s, how=how, holder=holder)
            return created, how
    finally:
        if key is not None:
            key[:] = bytes(len(key))


async def change_passphrase(agent: Agent, old: bytes, new: bytes) -> None:
    """Wrap the store's key under a new passphrase; a store that only the keyring opens has no old
    one, and gets its first.

    Raises DeniedError where the old one is wrong.
    """
    if not new:
        raise InvalidError("a new passphrase needs at least one byte")
    async with agent.unlocking:
        await _wait_after_failures(agent)
        try:
            await agent.store.call(partial(_change, old, new), deadline_s=OPEN_DEADLINE_S)
        except DeniedError:
            agent.session.failed(agent.clock.boot())
            raise


def _change(old: bytes, new: bytes, store: "Store") -> None:
    if "passphrase" in store.key_slots:
        store.change_passphrase(old, new)
    elif old:
        raise InvalidError("the store has no passphrase yet: leave the present one empty")
    else:
        store.enrol_passphrase(new)


async def _wait_after_failures(agent: Agent) -> None:
    wait_s = agent.session.next_try_at - agent.clock.boot()
    if wait_s > 0:
        await trio.sleep(wait_s)


async def _key_of(agent: Agent, *, create: bool) -> bytearray:
    """The keyring's key of this store; made where it may be entered into the store afterwards.

    Raises LockedError where there is no key and none may be made, UnavailableError, InvalidError.
    """
    is_new = _is_new(agent)
    if is_new and not create:
        raise _no_store()
    ask = read_or_make_key if is_new or agent.store.is_open else read_key
    key = await run_blocking(
        partial(ask, agent.store.path),
        deadline_s=DEADLINE_S,
        what="the OS keyring",
        limiter=_keyring_threads,
    )
    if key is None:
        raise _not_enrolled("the keyring has no key of this store")
    return key


class _Attempt:
    """One attempt to open the session.  Its methods tell whether the right to it was proved."""

    def __init__(self, agent: Agent, holder: Holder, locks: int, *, created: bool) -> None:
        self._agent, self._store, self._holder = agent, agent.store, holder
        self._locks, self._created = locks, created

    async def with_passphrase(self, passphrase: bytes) -> bool:
        """Open the store, or prove the passphrase to the open one."""
        with self._denial_counted("wrong passphrase"):
            if self._store.is_open:
                await self._store.call(
                    lambda store: store.prove_passphrase(passphrase), deadline_s=OPEN_DEADLINE_S
                )
            else:
                how: Opening = "create" if self._created else "unlock"
                await self._store.open(how, passphrase, locks=self._locks)
        return True

    async def with_key(self, key: bytearray) -> bool:
        """Open the store, or enter the key into the open one: one that could not open the store
        before proves nothing.
        """
        if self._store.is_open:
            await self._agent.broker.allow(Caller(self._holder), "admin", None)
            return await self._store.call(partial(_enrol, key), deadline_s=OPEN_DEADLINE_S)
        with self._denial_counted("wrong keyring"):
            how: Opening = "create_with_key" if self._created else "unlock_with_key"
            try:
                await self._store.open(how, key, locks=self._locks)
            except NotFoundError:
                raise _not_enrolled("the store does not know the keyring's key") from None
        return True

    @contextmanager
    def _denial_counted(self, why: str) -> Iterator[None]:
        """Make the next attempt wait, and record, where this one was wrong."""
        try:
            yield
        except DeniedError:
            self._agent.session.failed(self._agent.clock.boot())
            self._agent.record_later(
                {
                    "event": "session",
                    "action": "unlock",
                    "outcome": "deny",
                    "because": why,
                    "holder": self._holder,
                }
            )
            raise


def _enrol(key: bytearray, store: "Store") -> bool:
    """Let the keyring's key open the store; whether one could before."""
    could_before = "keyring" in store.key_slots
    store.enrol_key(key)
    return could_before


def _is_new(agent: Agent) -> bool:
    return not (agent.store.is_open or agent.store.exists)


def _no_store() -> LockedError:
    return LockedError("there is no store yet", remedy="secret-agent unlock")


def _not_enrolled(why: str) -> LockedError:
    return LockedError(
        f"{why}: unlock with the passphrase, and then once more with --keyring",
        remedy="secret-agent unlock && secret-agent unlock --keyring",
    )
