"""What the store hands out: frozen values, without behaviour and without I/O.

Times are whole Unix seconds.  A stage of "" is the one without a name.
"""

from dataclasses import dataclass

from secret_agent_client.value import SecretValue


@dataclass(frozen=True, slots=True)
class Record:
    """One version of one secret, with its values."""

    name: str
    stage: str
    version: int  # from 1
    type: str
    fields: dict[str, SecretValue]  # in the order in which they were given
    created_at: int
    by: str
    note: str | None
    expires_at: int | None
    rotate_due: int | None


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One version without its values."""

    version: int
    created_at: int
    by: str
    note: str | None
    deleted: bool
    field_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """One secret in one stage: its newest version that is not deleted, without its values."""

    name: str
    stage: str
    type: str
    version: int
    versions: int  # how many are not deleted
    created_at: int  # of the oldest version that is still kept
    updated_at: int  # of this version
    field_names: tuple[str, ...]
    note: str | None
    expires_at: int | None
    rotate_due: int | None
