"""Any platform without a way to tell a peer for certain: nobody is identified, nobody served."""

import sys
from typing import NoReturn

from secret_agent_client.errors import UnavailableError


def refuse(*_arguments: object, **_options: object) -> NoReturn:
    """Raise UnavailableError, whatever is asked."""
    raise UnavailableError(f"peers cannot be identified on {sys.platform}; this needs Linux 5.3")


class Peer:
    """No peer is ever made."""

    from_socket = staticmethod(refuse)


class Namespaces:
    """No namespaces are ever told."""

    own = staticmethod(refuse)


open_pidfd = refuse
