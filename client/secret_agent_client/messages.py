"""The verbs of the wire and the exact shape of each request; client/PROTOCOL.md tells the meaning.

Rules that hold here: a request is {"id", "verb", "body"}; a reply {"id", "ok"} or {"id", "error"};
an event {"event", "body"}.  Every field has one exact type; an unknown field is an error; no field
of any verb names a path, a module, a command or a URL that the agent would open, load or run: files
travel as descriptors (SCM_RIGHTS).

Whether a scoped socket knows a verb at all is said here, in the verb's own line, and the agent
builds a separate table of handlers from it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from secret_agent_client.errors import InvalidError
from secret_agent_client.references import MAX_FIELD

Body = dict[str, Any]

MAX_TEXT = 1024  # characters of a reason, a note, a client's name
MAX_VALUE = 512 * 1024  # bytes of one field
MAX_SECRET = 1024 * 1024  # bytes of all fields of one secret
MAX_FIELDS = 64
MAX_ITEMS = 256  # entries of a list of globs or ids
MAX_ITEM = 255  # characters of such an entry
MAX_UINT32 = 2**32 - 1  # the kernel's uids
MAX_SECONDS = 10 * 366 * 24 * 3600  # ten years; longer is a mistake of units
MAX_INT = 2**53 - 1  # what every language's JSON can hold

Kind = Literal["uint", "bool", "text", "bytes", "texts", "uints", "fields"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request: its exact kind, the most it holds, whether it must be there."""

    kind: Kind
    most: int
    required: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb.

    scoped: a scoped socket has it too.  locked: it is answered while the session is locked.
    active: it counts as use of the session, so that the idle timer starts anew.
    slow: it may wait for a person or a long computation, so it does not hold up those behind it.
    descriptors: how many descriptors come with it.
    """

    name: str
    fields: dict[str, Field] = field(default_factory=dict)
    scoped: bool = False
    locked: bool = False
    active: bool = False
    slow: bool = False
    descriptors: int = 0


_NAME = Field("text", 255, required=True)
_STAGE = Field("text", 63)
_VERSION = Field("uint", MAX_INT)
_SECONDS = Field("uint", MAX_SECONDS)
_TEXT = Field("text", MAX_TEXT)
_BOOL = Field("bool", 1)
_GLOBS = Field("texts", MAX_ITEMS)
_PASSPHRASE = Field("bytes", 4096)

_TABLE: Final = (
    Verb(
        "hello",
        {"version": Field("uint", 1000, required=True), "features": _GLOBS, "client": _TEXT},
        scoped=True,
        locked=True,
    ),
    Verb("status", {}, scoped=True, locked=True),
    # session
    Verb(
        "unlock",
        {"passphrase": _PASSPHRASE, "keyring": _BOOL, "lifetime_s": _SECONDS, "create": _BOOL},
        locked=True,
        slow=True,
    ),
    Verb("prompt-claim", {}, locked=True, slow=True),
    Verb("prompt-dismiss", {}, locked=True),
    Verb("lock", {}, locked=True),
    Verb("stop", {}, locked=True),
    Verb("passwd", {"old": _PASSPHRASE, "new": _PASSPHRASE}, slow=True),
    Verb("register", {"pid": Field("uint", MAX_INT)}, locked=True),
    Verb("unregister", {"pid": Field("uint", MAX_INT)}, locked=True),
    # secrets
    Verb(
        "get",
        {
            "name": _NAME,
            "field": Field("text", 63),
            "version": _VERSION,
            "stage": _STAGE,  # this stage and no other
            "prefer_stage": _STAGE,  # this stage, else the one without a name
            "all": _BOOL,  # every field, not the primary one alone
            "ttl_s": _SECONDS,
            "uses": Field("uint", MAX_INT),
            "reason": _TEXT,
            "binding": Field("text", 16),  # process | shell | session
            "channel": Field("text", 16),  # stdout | env | file | inject | clipboard | library
        },
        scoped=True,
        active=True,
    ),
    Verb(
        "set",
        {
            "name": _NAME,
            "stage": _STAGE,
            "type": Field("text", 63),
            "fields": Field("fields", MAX_SECRET),
            "generate": Field("text", 128),  # SPEC
            "generate_field": Field("text", 63),
            "note": _TEXT,
            "replace": _BOOL,  # these fields alone, instead of these over the last version's
            "expires_at": Field("uint", MAX_INT),  # Unix seconds
            "create_only": _BOOL,
        },
        active=True,
    ),
    Verb("ls", {"glob": Field("text", 255), "stage": _STAGE}, scoped=True, active=True),
    Verb("describe", {"name": _NAME, "stage": _STAGE}, scoped=True, active=True),
    Verb("history", {"name": _NAME, "stage": _STAGE}, active=True),
    Verb("rm", {"name": _NAME, "stage": _STAGE, "version": _VERSION, "purge": _BOOL}, active=True),
    Verb(
        "restore",
        {"name": _NAME, "stage": _STAGE, "version": Field("uint", MAX_INT, required=True)},
        active=True,
    ),
    Verb(
        "export",
        {"recipients": _GLOBS, "passphrase": _PASSPHRASE},
        active=True,
        slow=True,
        descriptors=1,
    ),
    Verb(
        "import",
        {"identity": Field("bytes", 4096), "passphrase": _PASSPHRASE, "prefix": Field("text", 255)},
        active=True,
        slow=True,
        descriptors=1,
    ),
    # leases and scopes
    Verb("leases", {}, scoped=True, locked=True),
    Verb("who", {"name": Field("text", 255)}, locked=True),
    Verb(
        "renew",
        {"lease": Field("text", 64, required=True), "ttl_s": _SECONDS},
        scoped=True,
        active=True,
    ),
    Verb("release", {"leases": Field("texts", MAX_ITEMS, required=True)}, scoped=True, locked=True),
    Verb(
        "revoke",
        {
            "leases": _GLOBS,  # lease or scope ids
            "secret": Field("text", 255),
            "holder": Field("uint", MAX_INT),
            "all": _BOOL,
        },
        locked=True,
    ),
    Verb("workdir", {}),
    Verb(
        "delegate",
        {
            "allow": Field("texts", MAX_ITEMS, required=True),
            "deny": _GLOBS,
            "ttl_s": _SECONDS,
            "max_uses": Field("uint", MAX_INT),
            "uids": Field("uints", 16),
            "stage": _STAGE,
            "bound": _BOOL,  # ends when the asking process does
        },
        scoped=True,
        active=True,
        descriptors=1,
    ),
    Verb("scopes", {}, scoped=True, locked=True),
    Verb("events", {"audit": _BOOL}, scoped=True, locked=True),
    # policy and audit
    Verb("policy-show", {}, locked=True),
    Verb("policy-check", {"text": Field("bytes", 256 * 1024, required=True)}, locked=True),
    Verb(
        "policy-explain",
        {"name": _NAME, "action": Field("text", 16), "stage": _STAGE, "as": _GLOBS},
        locked=True,
    ),
    Verb(
        "audit-show",
        {
            "since": Field("uint", MAX_INT),  # Unix seconds
            "after": Field("uint", MAX_INT),  # sequence number
            "secret": Field("text", 255),
            "holder": Field("uint", MAX_INT),
            "limit": Field("uint", 1000),
        },
        locked=True,
        slow=True,
    ),
    Verb("audit-verify", {}, locked=True, slow=True),
    Verb("doctor", {}, locked=True, slow=True),
)

VERBS: Final[dict[str, Verb]] = {verb.name: verb for verb in _TABLE}
assert len(VERBS) == len(_TABLE), "a verb stands twice"  # noqa: S101  # at import, for us


def check_request(message: dict[str, Any]) -> tuple[int, Verb, Body]:
    """The id, verb and body of a request whose every field has been checked.

    Raises InvalidError naming the field, never its content.
    """
    request_id, name, body = message.get("id"), message.get("verb"), message.get("body", {})
    if type(request_id) is not int or not 0 <= request_id <= MAX_INT:
        raise InvalidError("a request's id must be an integer from 0 to 2^53-1")
    if type(name) is not str or type(body) is not dict:
        raise InvalidError("a request needs a verb, a string, and a body, a map")
    if len(message) != 2 + ("body" in message):
        raise InvalidError("a request has fields other than id, verb and body")
    verb = VERBS.get(name)
    if verb is None:
        raise InvalidError("this agent does not know that verb", remedy="secret-agent status")
    check_body(verb, body)
    return request_id, verb, body


def check_body(verb: Verb, body: Body) -> None:
    """Raise InvalidError unless every field is known to the verb and of its exact kind."""
    for key, value in body.items():
        known = verb.fields.get(key)
        if known is None:
            raise InvalidError(f"{verb.name} has no field of that name")
        if not _fits(known, value):
            raise InvalidError(f"{verb.name}: {key} must be {_describe(known)}")
    for key, known in verb.fields.items():
        if known.required and key not in body:
            raise InvalidError(f"{verb.name} needs the field {key}")


def _fits(known: Field, value: Any) -> bool:
    return _CHECKS[known.kind](value, known.most)


def _is_uint(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _is_text(value: Any, most: int) -> bool:
    return type(value) is str and len(value) <= most


def _is_binary(value: Any, most: int) -> bool:
    return type(value) is bytes and len(value) <= most


def _is_list(value: Any, most: int, item_fits: Callable[[Any], bool]) -> bool:
    return type(value) is list and len(value) <= most and all(map(item_fits, value))


def _are_fields(value: Any, most: int) -> bool:
    return (
        type(value) is dict
        and len(value) <= MAX_FIELDS
        and all(0 < len(name) <= MAX_FIELD for name in value)
        and all(_is_binary(item, MAX_VALUE) for item in value.values())
        and sum(map(len, value.values())) <= most
    )


_CHECKS: Final[dict[Kind, Callable[[Any, int], bool]]] = {
    "uint": _is_uint,
    "bool": lambda value, _: type(value) is bool,
    "text": _is_text,
    "bytes": _is_binary,
    "texts": lambda value, most: _is_list(value, most, lambda item: _is_text(item, MAX_ITEM)),
    "uints": lambda value, most: _is_list(value, most, lambda item: _is_uint(item, MAX_UINT32)),
    "fields": _are_fields,
}


def _describe(known: Field) -> str:
    most = known.most
    return {
        "uint": f"an integer from 0 to {most}",
        "text": f"a string of at most {most} characters",
        "bool": "true or false",
        "bytes": f"a binary of at most {most} bytes",
        "texts": f"a list of at most {most} strings of at most {MAX_ITEM} characters",
        "uints": f"a list of at most {most} integers of 32 bits",
        "fields": f"a map of at most {MAX_FIELDS} names, of 1 to {MAX_FIELD} characters each, "
        f"to binaries of at most {MAX_VALUE} bytes each and {most} in all",
    }[known.kind]
