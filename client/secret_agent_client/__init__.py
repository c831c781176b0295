"""The client of secret-agent: the wire contract, the command line and the library."""

from secret_agent_client.version import __version__

__all__ = ["__version__"]
