"""References to values through the agent, all or none; what `env --reveal` and `inject` share.

Every reference is asked for before any answer is used, so that all that is missing is named at once
and nothing is done with a part (T31).
"""

from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from secret_agent_client.cli.session import call_unlocked
from secret_agent_client.connection import Connection
from secret_agent_client.errors import NotFoundError, SecretAgentError
from secret_agent_client.references import Reference
from secret_agent_client.value import SecretValue


@dataclass(frozen=True, slots=True)
class Terms:
    """How the values are asked for: by which channel, bound to what, for how long, and why."""

    channel: str
    stage: str | None = None  # preferred; a reference that names its own keeps it
    ttl_s: int | None = None
    reason: str | None = None
    binding: str = "shell"


@dataclass(slots=True)
class Resolved:
    """Values by reference, the leases they came under, and those that do not exist."""

    values: dict[Reference, SecretValue] = field(default_factory=dict)
    leases: list[Mapping[str, Any]] = field(default_factory=list)
    missing: list[Reference] = field(default_factory=list)


def get_body(reference: Reference, terms: Terms) -> dict[str, Any]:
    """The body of a `get` of that reference on these terms."""
    body: dict[str, Any] = {
        "name": reference.name,
        "field": reference.field,
        "version": reference.version,
        "stage": reference.stage,
        "prefer_stage": terms.stage if reference.stage is None else None,
        "ttl_s": terms.ttl_s,
        "reason": terms.reason,
        "binding": terms.binding,
        "channel": terms.channel,
    }
    return {key: value for key, value in body.items() if value is not None}


def resolve(
    connection: Connection,
    args: Namespace,
    references: Iterable[Reference],
    terms: Terms,
    *,
    optional: Iterable[Reference] = (),
) -> Resolved:
    """The values of all references; of optional ones, those that exist.

    Raises NotFoundError naming all that are missing, or the first other error.
    """
    resolved = Resolved()
    for reference in dict.fromkeys(references):
        try:
            reply = call_unlocked(connection, args, "get", get_body(reference, terms))
        except NotFoundError as error:
            resolved.missing.append(reference)
            first = error
            continue
        (value,) = reply["fields"].values()
        resolved.values[reference] = SecretValue(value)
        resolved.leases.append(reply["lease"])
    needed = [reference for reference in resolved.missing if reference not in set(optional)]
    if needed:
        raise _missing(needed, first)
    return resolved


def _missing(references: list[Reference], first: SecretAgentError) -> SecretAgentError:
    if len(references) == 1:
        return NotFoundError(f"{references[0]}: {first.message}", remedy=first.remedy)
    names = ", ".join(map(str, references))
    return NotFoundError(f"{len(references)} references lead nowhere: {names}", remedy=first.remedy)
