"""The client of secret-agent: the wire contract, the command line and the library.

Which call you want:

    with secret_agent_client.connect() as client:      one connection; see client/PYTHON.md
        password = client.get("payments/db#password")  a SecretValue
        with client.lease("payments/db") as lease:     ended with the block, watched meanwhile
            …

    from secret_agent_client import aio                the same for trio
    async with aio.connect() as client:

Nothing is imported until it is asked for: `secret-agent get` imports this package too.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from secret_agent_client.client import Client, Lease, connect
    from secret_agent_client.errors import (
        DeniedError,
        ExpiredError,
        InternalError,
        InvalidError,
        LockedError,
        NoAgentError,
        NotFoundError,
        SecretAgentError,
        UnavailableError,
        UsageError,
    )
    from secret_agent_client.references import Reference, parse_reference
    from secret_agent_client.value import SecretValue
    from secret_agent_client.version import __version__

_HOME = {
    "Client": "client",
    "DeniedError": "errors",
    "ExpiredError": "errors",
    "InternalError": "errors",
    "InvalidError": "errors",
    "Lease": "client",
    "LockedError": "errors",
    "NoAgentError": "errors",
    "NotFoundError": "errors",
    "Reference": "references",
    "SecretAgentError": "errors",
    "SecretValue": "value",
    "UnavailableError": "errors",
    "UsageError": "errors",
    "__version__": "version",
    "connect": "client",
    "parse_reference": "references",
}
"""Public name -> the module that has it."""

__all__ = [
    "Client",
    "DeniedError",
    "ExpiredError",
    "InternalError",
    "InvalidError",
    "Lease",
    "LockedError",
    "NoAgentError",
    "NotFoundError",
    "Reference",
    "SecretAgentError",
    "SecretValue",
    "UnavailableError",
    "UsageError",
    "__version__",
    "connect",
    "parse_reference",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
