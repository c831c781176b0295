"""The embedded encrypted store.

FORMAT.md in this folder tells the file; `Store` is the call that you want.
"""

from secret_agent.store.database import Store
from secret_agent.store.header import Kind
from secret_agent.store.records import Record, SecretInfo, VersionInfo

__all__ = ["Kind", "Record", "SecretInfo", "Store", "VersionInfo"]
