"""From a command to an open session: connect, and ask for the passphrase where it is due.

Rules that hold here: a person is asked only after the agent said `locked` and gave us the prompt
(prompt-claim), so that many callers that wait make one prompt, and a dismissed one answers them
all; where nobody may be asked, the agent's own error goes up at once (exit 3).  A store is made
here only for a command that writes: for one that reads it could only be empty.
"""

from secret_agent_client.cli.prompts import (
    DismissedError,
    may_prompt,
    read_passphrase,
    wipe,
)
from secret_agent_client.connection import CALL_S, Connection
from secret_agent_client.errors import DeniedError, LockedError, SecretAgentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence
    from typing import Any

    Body = Mapping[str, Any]
    Reply = dict[str, Any]

PERSON_S = 600.0  # seconds that we wait for somebody else's prompt to be answered
UNLOCK_S = 120.0  # seconds for the key derivation and for the delay after wrong passphrases
TRIES = 3  # passphrases asked for before giving up, as sudo and ssh-add have it
WRITES = frozenset({"set", "import"})
ASK = "Passphrase: "
ASK_NEW = "New passphrase for the secrets of this user: "


def open_session(_args: "Namespace | None" = None) -> Connection:
    """A connection to the agent, locked or not.  Raises what Connection.connect raises."""
    return Connection.connect(client="secret-agent")


def call_unlocked(
    conn: Connection,
    args: "Namespace",
    verb: str,
    body: "Body | None" = None,
    *,
    deadline_s: float = CALL_S,
    descriptors: "Sequence[int]" = (),
) -> "Reply":
    """Call; where the session is locked and a person may be asked, unlock and call again."""
    try:
        return conn.call(verb, body, deadline_s=deadline_s, descriptors=descriptors)
    except LockedError as locked:
        ensure_unlocked(conn, args, locked, create=verb in WRITES)
    return conn.call(verb, body, deadline_s=deadline_s, descriptors=descriptors)


def call_many_unlocked(
    conn: Connection,
    args: "Namespace",
    requests: "Sequence[tuple[str, Body | None]]",
    *,
    deadline_s: float = CALL_S,
) -> "list[Reply | SecretAgentError]":
    """The same for many; those that were answered `locked` are asked again."""
    answers = conn.call_many(requests, deadline_s=deadline_s)
    again = [at for at, answer in enumerate(answers) if isinstance(answer, LockedError)]
    if again:
        first = answers[again[0]]
        assert isinstance(first, LockedError)  # noqa: S101  # chosen so two lines above
        ensure_unlocked(conn, args, first)
        retried = conn.call_many([requests[at] for at in again], deadline_s=deadline_s)
        for at, answer in zip(again, retried, strict=True):
            answers[at] = answer
    return answers


def ensure_unlocked(
    conn: Connection, args: "Namespace", locked: LockedError, *, create: bool = False
) -> None:
    """Ask for the passphrase and unlock; raise `locked` where nobody may be asked.

    Raises DismissedError where the person gave no answer, DeniedError after too many wrong ones.
    """
    if not may_prompt(args):
        raise locked
    new = conn.call("status")["state"] == "new"
    if new and not create:
        raise locked
    if not conn.call("prompt-claim", deadline_s=PERSON_S)["prompt"]:
        return
    try:
        unlock_by_prompt(conn, new=new)
    except BaseException:
        _dismiss(conn)
        raise


def unlock_by_prompt(conn: Connection, *, new: bool, extra: "Body | None" = None) -> "Reply":
    """Ask up to three times; the reply of the `unlock` that succeeded.

    `new`: asked twice, and a store is made.  `extra`: further fields of the request.
    """
    for remaining in reversed(range(TRIES)):
        passphrase = read_passphrase(ASK_NEW if new else ASK, confirm=new)
        try:
            return unlock_with(conn, passphrase, {**(extra or {}), "create": new})
        except DeniedError:
            if not remaining:
                raise
            tell("that is not the passphrase; once more")
    raise AssertionError


def unlock_with(conn: Connection, passphrase: bytearray, more: "Body") -> "Reply":
    """Unlock with a passphrase, which is wiped; the reply."""
    try:
        return conn.call("unlock", {"passphrase": bytes(passphrase), **more}, deadline_s=UNLOCK_S)
    finally:
        wipe(passphrase)


def tell(text: str) -> None:
    """Say something where the prompt stands."""
    from secret_agent_client.cli.output import Output

    Output().say(text)


def _dismiss(conn: Connection) -> None:
    """Let the others who wait know that nobody answered, as far as the agent still hears us."""
    try:
        conn.call("prompt-dismiss", deadline_s=CALL_S)
    except (SecretAgentError, OSError):
        return


__all__ = [
    "DismissedError",
    "call_many_unlocked",
    "call_unlocked",
    "ensure_unlocked",
    "open_session",
    "unlock_by_prompt",
    "unlock_with",
]
