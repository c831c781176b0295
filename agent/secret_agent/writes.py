"""Write a secret: its type's schema checked, what is to be generated generated, then one durable
version.

The decision has been made and recorded before this is called.  What is there already is looked at,
checked together with what comes, and written over in one turn at the store, so that of two who
write at once neither breaks the other's schema.  A field's value is never echoed; errors name the
field.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from secret_agent.core import Agent
from secret_agent.model import Holder
from secret_agent.secret_types.generate import generate
from secret_agent.secret_types.schema import SecretType, get_type
from secret_agent_client.errors import InvalidError, NotFoundError, UsageError
from secret_agent_client.messages import MAX_SECRET, MAX_TEXT

if TYPE_CHECKING:  # importing the store costs its cryptography, which `start` need not wait for
    from secret_agent.store.database import Store
    from secret_agent.store.records import SecretInfo

DEFAULT_TYPE = "generic"
MAX_TIME = 253_402_300_799  # Unix seconds: the end of the year 9999, the last that is shown


async def write_secret(
    agent: Agent, holder: Holder, body: dict[str, Any], stage: str
) -> dict[str, Any]:
    """Write what a checked `set` request says; the reply's body.

    Raises InvalidError where the type's schema is broken, UsageError where nothing is to be
    written.
    """
    if len(body.get("note") or "") > MAX_TEXT:
        raise InvalidError(f"a note has more than {MAX_TEXT} characters")
    if body.get("expires_at", 0) > MAX_TIME:
        raise InvalidError("expires_at is beyond the year 9999")
    write = partial(_write, body, stage, author(holder))
    return await agent.store.write(body["name"], stage, write)


def _write(body: Mapping[str, Any], stage: str, by: str, store: "Store") -> dict[str, Any]:
    name, merge = body["name"], not body.get("replace", False)
    before = _before(store, name, stage)
    kind = get_type(body.get("type") or (before.type if before else DEFAULT_TYPE))
    fields = dict(body.get("fields", {}))
    generated = _generate(kind, body, fields)
    if not fields:
        raise UsageError("there is nothing to write", remedy=f"secret-agent set {name} --stdin")
    kept = before.field_names if before and merge else ()
    kind.check(fields, also=kept)
    info = store.put(
        name,
        stage,
        fields,
        type=kind.name,
        note=body.get("note"),
        by=by,
        expires_at=body.get("expires_at"),
        rotate_due=None,
        merge=merge,
        create_only=body.get("create_only", False),
    )
    return {
        "name": name,
        "version": info.version,
        "stage": stage or None,
        "type": kind.name,
        "created": before is None,
        "generated": generated,
    }


def _before(store: "Store", name: str, stage: str) -> "SecretInfo | None":
    """The newest version as it is, or None where there is none."""
    try:
        return store.describe(name, stage)
    except NotFoundError:
        return None


def _generate(kind: SecretType, body: Mapping[str, Any], fields: dict[str, bytes]) -> list[str]:
    """Add the generated field to the fields; the names of those generated."""
    if "generate" not in body and "generate_field" not in body:
        return []
    field = body.get("generate_field") or kind.primary
    if field in fields:
        raise UsageError(f"the field {field} is both given and to be generated")
    fields[field] = generate(body.get("generate") or kind.generate_spec(field))
    if sum(map(len, fields.values())) > MAX_SECRET:
        raise InvalidError(f"the fields have more than {MAX_SECRET} bytes in all")
    return [field]


def author(holder: Holder) -> str:
    """Who wrote, for `history`: the executable's name and the uid; nothing that the holder may
    choose freely.
    """
    return f"uid {holder.uid} {holder.exe.rpartition('/')[2]}".strip()[:128]
