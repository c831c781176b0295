"""JSON to be imported: our own `get --json`, plain objects, `op item get`, `vault kv get`.

    {"NAME": "value"}                       one secret with the field `value`
    {"NAME": {"FIELD": "value", …}}         one secret with these fields
    {"FOLDER": {"NAME": {…}, …}}            a name of two segments, and so on
    {"base64": "…"}                         in the place of a value: these bytes

An object in which every member is a value is a secret; one in which some member is an object is a
folder.  Lists, nulls and empty values are left and told of.  No message quotes a value.
"""

import base64
import binascii
import json
from typing import Any

from secret_agent_client.errors import InvalidError
from secret_agent_client.importers import (
    PRIMARY,
    Found,
    Imported,
    distinct_fields,
    env_name,
    secret_name,
)
from secret_agent_client.references import parse_reference
from secret_agent_client.value import SecretValue

MAX_FILE = 16 * 1024 * 1024  # bytes
MAX_DEPTH = 16  # objects in each other; a name has fewer segments than this

Json = dict[str, Any]


def read_json(data: bytes, *, stem: str) -> Imported:
    """Read a JSON document of one of the layouts.  Raises InvalidError with line and column."""
    if len(data) > MAX_FILE:
        raise InvalidError(f"the JSON file has more than {MAX_FILE} bytes")
    result = Imported()
    document = load_json(data)
    for item in document if isinstance(document, list) else [document]:
        if not isinstance(item, dict):
            raise InvalidError("the JSON file must hold an object, or a list of `op` items")
        _read_document(item, result, stem)
    if not (result.found or result.left):
        raise InvalidError("the file holds nothing that can be imported")
    return result


def load_json(data: bytes) -> Any:
    """The document.  Raises InvalidError with its place where it is none, or a key stands twice."""
    try:
        return json.loads(data, object_pairs_hook=_without_twins)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidError(f"the file is not JSON: {place}") from None
    except UnicodeDecodeError as error:
        raise InvalidError(f"the file is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise InvalidError("the JSON file is nested too deep") from None


def scalar(member: Any) -> SecretValue | None:
    """The bytes of a scalar, or of {"base64": …}; None for anything else."""
    try:
        if isinstance(member, str):
            return SecretValue(member.encode())
        if isinstance(member, bool | int | float):
            return SecretValue(json.dumps(member).encode())
        if isinstance(member, dict) and list(member) == ["base64"]:
            return SecretValue(base64.b64decode(member["base64"], validate=True))
    except (UnicodeEncodeError, binascii.Error, TypeError, ValueError):
        return None  # half a surrogate pair, or base64 that is none
    return None


def _without_twins(pairs: list[tuple[str, Any]]) -> Json:
    """A dict; a key that stands twice would otherwise lose a value without a word."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise InvalidError("a key stands twice in an object of the JSON file")
    return made


def _read_document(item: Json, result: Imported, stem: str) -> None:
    if isinstance(item.get("fields"), list) and isinstance(item.get("title"), str):
        _read_op(item, result)
    elif isinstance(item.get("data"), dict) and {"lease_id", "request_id"} & item.keys():
        _read_vault(item["data"], result, stem)
    elif isinstance(item.get("reference"), str) and isinstance(item.get("fields"), dict):
        _read_own(item, result)
    else:
        _read_folder(item, result, ())


def _read_own(item: Json, result: Imported) -> None:
    """What `get --json` prints: `reference`, `type`, `fields`."""
    reference = parse_reference(item["reference"])
    kind = item.get("type")
    fields = _fields(item["fields"], result, reference.name)
    type_name = kind if isinstance(kind, str) else None
    result.take(Found(reference.name, fields, reference.name, type=type_name))


def _read_op(item: Json, result: Imported) -> None:
    """An item of 1Password's `op`: fields with a label and a value."""
    vault = item.get("vault")
    folder = vault.get("name") if isinstance(vault, dict) else None
    title = item["title"] if not isinstance(folder, str) else f"{folder}/{item['title']}"
    name = secret_name(title)
    if not name:
        result.leave("an item", "its title has no usable character")
        return
    pairs = []
    for each in item["fields"]:
        if not isinstance(each, dict) or not isinstance(each.get("value"), str):
            continue  # op lists every field of the item's template, most without a value
        label = each.get("label") or each.get("id")
        if each["value"] and isinstance(label, str):
            pairs.append((label, SecretValue(each["value"].encode())))
    fields = distinct_fields(pairs, result, name)
    result.take(Found(name, fields, name, type="login" if "password" in fields else None))


def _read_vault(data: Json, result: Imported, stem: str) -> None:
    """`vault kv get -format=json`, of KV version 1 or 2; it does not say its own path."""
    inner = data.get("data")
    values = inner if isinstance(inner, dict) and "metadata" in data else data
    name = secret_name(stem)
    if not name:
        raise InvalidError("the file's name has no character that a secret's name may have")
    result.take(Found(name, _fields(values, result, name), name))


def _read_folder(item: Json, result: Imported, path: tuple[str, ...]) -> None:
    if len(path) >= MAX_DEPTH:
        result.leave("/".join(path[:3]) + "/…", f"nested more than {MAX_DEPTH} deep")
        return
    for key, member in item.items():
        where = "/".join((*path, key))
        name = secret_name(where)
        value = scalar(member)
        if not secret_name(key):
            result.leave(where, "its name has no usable character")
        elif value is not None:
            result.take(Found(name, {PRIMARY: value}, where, env=env_name(key)))
        elif isinstance(member, dict) and any(_is_folder(each) for each in member.values()):
            _read_folder(member, result, (*path, key))
        elif isinstance(member, dict):
            result.take(Found(name, _fields(member, result, where), where))
        else:
            result.leave(where, "neither a text, a number, a truth value nor an object")


def _fields(members: Json, result: Imported, where: str) -> dict[str, SecretValue]:
    pairs = []
    for key, member in members.items():
        value = scalar(member)
        if value is None:
            result.leave(f"{where}#{key}", "neither a text, a number nor a truth value")
        else:
            pairs.append((key, value))
    return distinct_fields(pairs, result, where)


def _is_folder(member: Any) -> bool:
    return isinstance(member, dict) and scalar(member) is None
