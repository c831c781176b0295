"""Where the command begins, however it is called: `secret-agent`, `python -m`, the one-file client.

The script in bin/ imports fast.py itself and so saves the import of this file.
"""

from secret_agent_client.fast import run

__all__ = ["run"]
