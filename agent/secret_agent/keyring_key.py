"""The store's key in the OS keyring, through the `keyring` package: made on first use, one entry a
store.

Any program of the user's session can read an unlocked keyring (CVE-2018-19358 and its kind), so
this trades strength for
ease; `doctor` and SECURITY.md say so.  Everything here blocks, on some desktops until a person
answers a dialog: callers
run it in a thread with a deadline.
"""

import base64
import binascii
import secrets
from pathlib import Path

from secret_agent_client.errors import InvalidError, UnavailableError

SERVICE = "secret-agent"
KEY_SIZE = 32  # bytes
DEADLINE_S = 15.0  # a locked keyring asks a person; one who does not answer is no hang of ours


def read_key(store: Path) -> bytearray | None:
    """The key kept for a store, or None.  Raises UnavailableError (none, locked), InvalidError
    (not our entry).
    """
    text = _ask("get_password", SERVICE, str(store))
    if text is None:
        return None
    try:
        key = bytearray(base64.b64decode(str(text), validate=True))
    except binascii.Error:
        key = bytearray()
    if len(key) != KEY_SIZE:
        raise InvalidError("what the keyring holds for this store is not a key of ours")
    return key


def make_key(store: Path) -> bytearray:
    """A new key, kept for a store and read back, so that it is known to be there.  Raises
    UnavailableError.
    """
    key = bytearray(secrets.token_bytes(KEY_SIZE))
    _ask("set_password", SERVICE, str(store), base64.b64encode(key).decode())
    if read_key(store) != key:
        raise UnavailableError("the keyring did not keep the key")
    return key


def _ask(method: str, *arguments: str) -> object:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise UnavailableError(
            "the keyring package is not installed",
            remedy="pip install 'secret-agent-daemon[keyring]'",
        ) from None
    try:
        return getattr(keyring, method)(*arguments)
    except keyring.errors.NoKeyringError:
        raise UnavailableError(
            "there is no OS keyring here", remedy="secret-agent unlock"
        ) from None
    except keyring.errors.KeyringLocked:
        raise UnavailableError(
            "the OS keyring is locked", remedy="unlock it, then secret-agent unlock --keyring"
        ) from None
    except Exception as error:  # noqa: BLE001  # backends raise whatever their bus raises
        # The class alone: a backend's message may hold what it was given.
        reason = type(error).__name__
        raise UnavailableError(
            f"the OS keyring failed ({reason})", remedy="secret-agent doctor"
        ) from None
