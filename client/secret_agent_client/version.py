"""The one place that knows the version of the distribution and of the wire protocol."""

__version__ = "0.1.0"

PROTOCOL = 1
"""Version of the wire protocol that this build speaks; see client/PROTOCOL.md."""
