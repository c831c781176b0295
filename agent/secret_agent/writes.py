"""Write a secret: its type's schema checked, what is to be generated generated, then one durable
version.

The decision has been made and recorded before this is called.  A field's value is never echoed;
errors name the field.
"""

from typing import Any

from secret_agent.core import Agent
from secret_agent.model import Holder
from secret_agent.secret_types.generate import generate
from secret_agent.secret_types.schema import get_type
from secret_agent_client.errors import InvalidError, NotFoundError, UsageError
from secret_agent_client.messages import MAX_SECRET, MAX_TEXT

DEFAULT_TYPE = "generic"


async def write_secret(
    agent: Agent, holder: Holder, body: dict[str, Any], stage: str
) -> dict[str, Any]:
    """Write what a checked `set` request says; the reply's body.

    Raises InvalidError where the type's schema is broken, UsageError where nothing is to be
    written.
    """
    name, note = body["name"], body.get("note")
    if note is not None and len(note) > MAX_TEXT:
        raise InvalidError(f"a note has more than {MAX_TEXT} characters")
    before = await _before(agent, name, stage)
    kind_name = body.get("type") or (before[0] if before else DEFAULT_TYPE)
    kind = get_type(kind_name)
    fields = dict(body.get("fields", {}))
    generated = _generate(kind_name, body, fields)
    if not fields:
        raise UsageError("there is nothing to write", remedy=f"secret-agent set {name} --stdin")
    merge = not body.get("replace", False)
    kept = before[1] if before and merge else ()
    kind.check(fields, also=[each for each in kept if each not in fields])
    info = await agent.store.write(
        name,
        stage,
        lambda store: store.put(
            name,
            stage,
            fields,
            type=kind_name,
            note=note,
            by=author(holder),
            expires_at=body.get("expires_at"),
            rotate_due=None,
            merge=merge,
            create_only=body.get("create_only", False),
        ),
    )
    return {
        "name": name,
        "version": info.version,
        "stage": stage or None,
        "type": kind_name,
        "created": before is None,
        "generated": generated,
    }


async def _before(agent: Agent, name: str, stage: str) -> tuple[str, tuple[str, ...]] | None:
    """(type, field names) of the newest version, or None where there is none."""
    try:
        info = await agent.store.call(lambda store: store.describe(name, stage))
    except NotFoundError:
        return None
    return info.type, info.field_names


def _generate(kind_name: str, body: dict[str, Any], fields: dict[str, bytes]) -> list[str]:
    """Add the generated field to the fields; the names of those generated."""
    if "generate" not in body:
        return []
    kind = get_type(kind_name)
    field = body.get("generate_field") or kind.primary
    if field in fields:
        raise UsageError(f"the field {field} is both given and to be generated")
    fields[field] = generate(body["generate"] or kind.generate_spec(field))
    if sum(map(len, fields.values())) > MAX_SECRET:
        raise InvalidError(f"the fields have more than {MAX_SECRET} bytes in all")
    return [field]


def author(holder: Holder) -> str:
    """Who wrote, for `history`: the executable's name and the uid; nothing that the holder may
    choose freely.
    """
    return f"uid {holder.uid} {holder.exe.rpartition('/')[2]}".strip()[:128]
