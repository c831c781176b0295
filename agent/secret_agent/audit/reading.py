"""Read records back, a page at a time, without holding more than the page.  Blocking: called in a
thread.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

from secret_agent.audit.files import files_of, lines_of
from secret_agent.audit.record import decode
from secret_agent_client.references import glob_matches


def read(
    folder: Path,
    *,
    after: int | None = None,
    since: int | None = None,
    limit: int = 200,
    secret: str | None = None,
    holder: int | None = None,
) -> list[dict[str, Any]]:
    """Up to `limit` records, oldest first: behind a sequence number, from a Unix time on, of
    secrets that a glob
    matches, of a holder's pid.  Lines that are no records are passed over: `verify` names them.
    """
    found: list[dict[str, Any]] = []
    for path in _from(files_of(folder), after or 0):
        for line in lines_of(path):
            record = decode(line)
            if record is None or record["seq"] <= (after or 0):
                continue
            if _wanted(record, since, secret, holder):
                found.append(record)
                if len(found) >= limit:
                    return found
    return found


def _from(paths: list[Path], after: int) -> list[Path]:
    """The files that may hold what comes behind a sequence number."""
    for at in range(len(paths) - 1, 0, -1):
        first = decode(next(lines_of(paths[at]), b""))
        if first is not None and first["seq"] <= after + 1:
            return paths[at:]
    return paths


def _wanted(
    record: dict[str, Any], since: int | None, secret: str | None, holder: int | None
) -> bool:
    if since is not None and _seconds(record) < since:
        return False
    if secret is not None and not glob_matches(secret, str(record.get("secret", ""))):
        return False
    return holder is None or record.get("holder", {}).get("pid") == holder


def _seconds(record: dict[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(record.get("time"))).timestamp()
    except ValueError:
        return 0.0
