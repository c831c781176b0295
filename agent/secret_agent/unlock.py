"""Open the session: by a passphrase or by the key in the OS keyring; one attempt at a time, wrong
ones ever slower.

The order matters: the store is verified whole before the session opens, and the session opens only
when the store is open.
"""

from collections.abc import Callable
from functools import partial

import trio

from secret_agent.core import Agent
from secret_agent.keyring_key import DEADLINE_S, make_key, read_key
from secret_agent.model import Holder
from secret_agent.store_access import OPEN_DEADLINE_S
from secret_agent.threads import new_limiter, run_blocking
from secret_agent_client.errors import DeniedError, InvalidError, LockedError, UsageError

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
    UsageError, InvalidError
    (tampering, named), UnavailableError.
    """
    if not keyring and not passphrase:
        raise UsageError("unlock needs a passphrase of at least one byte, or the keyring")
    async with agent.unlocking:
        await _wait_after_failures(agent)
        created = not agent.store.exists
        if created and not create:
            raise LockedError("there is no store yet", remedy="secret-agent unlock")
        how = "keyring" if keyring else "passphrase"
        try:
            if keyring:
                await _open_with_keyring(agent, created=created)
            else:
                await _open_with_passphrase(agent, bytes(passphrase or b""), created=created)
        except DeniedError:
            agent.session.failed(agent.clock.boot())
            agent.record_later(
                {
                    "event": "session",
                    "action": "unlock",
                    "outcome": "deny",
                    "because": f"wrong {how}",
                    "holder": holder,
                }
            )
            raise
        agent.opened(lifetime_s=lifetime_s, how=how, holder=holder)
        return created, how


async def change_passphrase(agent: Agent, old: bytes, new: bytes) -> None:
    """Wrap the store's key under a new passphrase.  Raises DeniedError where the old one is
    wrong.
    """
    if not new:
        raise InvalidError("a new passphrase needs at least one byte")
    async with agent.unlocking:
        await _wait_after_failures(agent)
        try:
            await agent.store.call(
                lambda store: store.change_passphrase(old, new), deadline_s=OPEN_DEADLINE_S
            )
        except DeniedError:
            agent.session.failed(agent.clock.boot())
            raise


async def _wait_after_failures(agent: Agent) -> None:
    wait_s = agent.session.next_try_at - agent.clock.boot()
    if wait_s > 0:
        await trio.sleep(wait_s)


async def _open_with_passphrase(agent: Agent, passphrase: bytes, *, created: bool) -> None:
    if agent.session.state == "unlocked":
        await agent.store.call(
            lambda store: store.prove_passphrase(passphrase), deadline_s=OPEN_DEADLINE_S
        )
    elif created:
        await agent.store.open("create", passphrase)
    else:
        await agent.store.open("unlock", passphrase)


async def _open_with_keyring(agent: Agent, *, created: bool) -> None:
    """Open with the keyring's key; made, and enrolled in the store, when the session is open or the
    store is new.
    """
    key = await _keyring(partial(read_key, agent.places.store))
    if key is None or created:
        if not created and agent.session.state != "unlocked":
            raise LockedError(
                "the keyring has no key of this store yet: unlock with the passphrase first, "
                "then once more with the keyring",
                remedy="secret-agent unlock",
            )
        key = await _keyring(partial(make_key, agent.places.store))
    assert key is not None, "make_key returns one"  # noqa: S101  # for the type checker
    kept = key
    if agent.session.state == "unlocked":
        await agent.store.call(lambda store: store.enrol_key(kept), deadline_s=OPEN_DEADLINE_S)
    elif created:
        await agent.store.open("create_with_key", kept)
    else:
        await agent.store.open("unlock_with_key", kept)
    kept[:] = bytes(len(kept))


async def _keyring(call: "Callable[[], bytearray | None]") -> bytearray | None:
    return await run_blocking(
        call, deadline_s=DEADLINE_S, what="the OS keyring", limiter=_keyring_threads
    )
