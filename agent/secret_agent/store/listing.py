"""From the metadata of versions to what is shown of secrets.  Pure."""

from collections.abc import Sequence

from secret_agent.store.records import SecretInfo, VersionInfo
from secret_agent.store.rows import Meta

Versioned = tuple[int, Meta]
"""A version's number and its metadata."""


def version_info(version: int, meta: Meta) -> VersionInfo:
    """One version as it is shown."""
    return VersionInfo(
        version=version,
        created_at=meta.created_at,
        by=meta.by,
        note=meta.note,
        deleted=meta.deleted,
        field_names=meta.field_names,
    )


def summary(versions: Sequence[Versioned]) -> SecretInfo | None:
    """One secret in one stage from its versions, oldest first; None where all are deleted."""
    live = [(version, meta) for version, meta in versions if not meta.deleted]
    if not live:
        return None
    version, meta = live[-1]
    return SecretInfo(
        name=meta.name,
        stage=meta.stage,
        type=meta.type,
        version=version,
        versions=len(live),
        created_at=versions[0][1].created_at,
        updated_at=meta.created_at,
        field_names=meta.field_names,
        note=meta.note,
        expires_at=meta.expires_at,
        rotate_due=meta.rotate_due,
    )
