"""Where an agent keeps what, from the client's own idea of where things are: both sides must agree
on it.

A private agent has a socket and a trail of its own, and shares the store: of two agents only one
can have it open.
"""

import fcntl
import os
from dataclasses import replace
from pathlib import Path

from secret_agent.core import Places
from secret_agent.server.socket import check_folder
from secret_agent_client.errors import UnavailableError
from secret_agent_client.paths import check_runtime_base, check_socket_path, default_paths

MAX_PRIVATE = 64  # private agents of one user at a time


def find_places(socket: Path | None, home: Path | None, *, private: bool) -> Places:
    """All paths, their folders made where they were missing, 0700.

    Raises InvalidError for a folder that is not ours alone, UnavailableError where none can be
    made.
    """
    environ = dict(os.environ)
    if home is not None:
        environ["SECRET_AGENT_HOME"] = os.fspath(home)
    check_runtime_base(environ)
    paths = default_paths(environ)
    state = Path(paths.state)
    for folder in (paths.config, paths.data, paths.state):
        check_folder(Path(folder))
    at = Path(paths.socket) if socket is None else socket.absolute()
    places = Places(
        socket=Path(check_socket_path(os.fspath(at))),
        runtime=at.parent,
        store=Path(paths.store),
        witness=state / "store.witness",
        audit=state,
        policy=Path(paths.policy_file),
        config=Path(paths.config_file),
    )
    return replace(places, audit=_private_trail(state)) if private else places


def _private_trail(state: Path) -> Path:
    """The first folder of `private-1`, `private-2`, … that no living agent has; ours until we
    end.
    """
    for number in range(1, MAX_PRIVATE + 1):
        folder = state / f"private-{number}"
        check_folder(folder)
        lock = os.open(
            folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return folder  # the descriptor stays open, and with it the lock, until the agent ends
    raise UnavailableError(f"{MAX_PRIVATE} private agents run already")
