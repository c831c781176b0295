"""The store's key in the OS keyring, through the `keyring` package: made on first use, one entry a
store.

Any program of the user's session can read an unlocked keyring (CVE-2018-19358 and its kind), so
this trades strength for ease; `doctor` and SECURITY.md say so.

Rules: only the keyrings of operating systems are asked, each by its module's name, so that neither
a configuration file nor a plug-in chooses what is loaded into the agent or where the key goes (a
plain file, say); a key that is there is never replaced; no message of a back end is passed on.
Everything here blocks, on some desktops until a person answers a dialog: callers run it in a thread
with a deadline.
"""

import base64
import binascii
import importlib
import os
import secrets
import sys
import threading
from pathlib import Path
from typing import Final, Protocol

from secret_agent_client.errors import InvalidError, UnavailableError

SERVICE = "secret-agent"
KEY_SIZE = 32  # bytes
DEADLINE_S = 15.0  # a locked keyring asks a person; one who does not answer is no hang of ours

# What a person calls it, its module, its class.
BACKENDS: Final = (
    {
        "darwin": (("the macOS keychain", "keyring.backends.macOS", "Keyring"),),
        "win32": (("the Windows vault", "keyring.backends.Windows", "WinVaultKeyring"),),
    }
).get(
    sys.platform,
    (
        ("the Secret Service", "keyring.backends.SecretService", "Keyring"),
        ("KWallet", "keyring.backends.kwallet", "DBusKeyring"),
    ),
)

_making = threading.Lock()  # of two who find none, the second must find the first one's


class Backend(Protocol):
    """What is needed of keyring.backend.KeyringBackend."""

    priority: float  # raises where the keyring cannot be used

    def get_password(self, service: str, username: str) -> str | None: ...
    def set_password(self, service: str, username: str, password: str) -> None: ...


def read_key(store: Path) -> bytearray | None:
    """The key kept for a store, or None.  Raises UnavailableError (none, locked), InvalidError
    (not our entry).
    """
    return _read(_choose(), store)


def read_or_make_key(store: Path) -> bytearray:
    """The key kept for a store; a new one, read back so that it is known to be there, where there
    is none.  Raises as `read_key` does.
    """
    backend = _choose()
    with _making:
        key = _read(backend, store)
        return _make(backend, store) if key is None else key


def _read(backend: Backend, store: Path) -> bytearray | None:
    text = _ask(backend, "get_password", SERVICE, str(store))
    if text is None:
        return None
    try:
        key = bytearray(base64.b64decode(str(text), validate=True))
    except (binascii.Error, ValueError):  # ValueError: it is not ASCII
        key = bytearray()
    if len(key) != KEY_SIZE:
        raise InvalidError("what the keyring holds for this store is not a key of ours")
    return key


def _make(backend: Backend, store: Path) -> bytearray:
    key = bytearray(secrets.token_bytes(KEY_SIZE))
    _ask(backend, "set_password", SERVICE, str(store), base64.b64encode(key).decode())
    if _read(backend, store) != key:
        raise UnavailableError("the keyring did not keep the key")
    return key


def _choose() -> Backend:
    """The keyring of this desktop.  Raises UnavailableError naming those that were looked for."""
    _need_package()
    usable = [found for _, module, name in BACKENDS if (found := _load(module, name)) is not None]
    if usable:
        return max(usable, key=lambda pair: pair[0])[1]
    names = " and ".join(name for name, _, _ in BACKENDS)
    why = f"{names} looked for"
    if sys.platform == "linux" and "DBUS_SESSION_BUS_ADDRESS" not in os.environ:
        why = f"{why}, but the agent was started without a session bus"
    raise UnavailableError(
        f"no OS keyring answers here ({why}); one that is a file is never used",
        remedy="secret-agent unlock",
    )


def _need_package() -> None:
    try:
        importlib.import_module("keyring")
    except ImportError:
        raise UnavailableError(
            "the keyring package is not installed",
            remedy="pip install 'secret-agent-daemon[keyring]'",
        ) from None


def _load(module: str, name: str) -> tuple[float, Backend] | None:
    """(priority, keyring), or None where it cannot be used here."""
    try:
        backend: Backend = getattr(importlib.import_module(module), name)()
        priority = backend.priority
    except Exception:  # noqa: BLE001  # whatever a missing library or an absent bus raises
        return None
    return priority, backend


def _ask(backend: Backend, method: str, *arguments: str) -> object:
    from keyring.errors import KeyringLocked

    try:
        return getattr(backend, method)(*arguments)
    except KeyringLocked:
        raise UnavailableError(
            "the OS keyring is locked and was not unlocked", remedy="secret-agent unlock --keyring"
        ) from None
    except Exception as error:  # noqa: BLE001  # backends raise whatever their bus raises
        # The class alone: a backend's message may hold what it was given.
        reason = type(error).__name__
        raise UnavailableError(
            f"the OS keyring failed ({reason})", remedy="secret-agent doctor"
        ) from None
