"""What a run holds: values, the leases they came under, the files that hold some of them.

Rules that hold here: all or nothing: where one required secret cannot be had, the leases of the
others are given back and nothing is started (T31); a value is kept only where it is needed: in the
child's environment, in its files, and in what the masker looks for; no message names a value.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from secret_agent_client.encodings import has_short_lines, is_maskable
from secret_agent_client.environment import Plan, Wanted, child_environment
from secret_agent_client.errors import NotFoundError, SecretAgentError
from secret_agent_client.files import ValueFiles, write_in_folder, write_in_memory
from secret_agent_client.references import Reference
from secret_agent_client.run_leases import Leases

Request = tuple[str, dict[str, Any]]
Reply = dict[str, Any] | SecretAgentError
Ask = Callable[[list[Request]], list[Reply]]
"""Asks the agent many things at once; may ask a person to unlock, where that is due."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How the values are asked for."""

    stage: str | None = None  # preferred; a reference that names its own keeps it
    ttl_s: int | None = None
    reason: str | None = None


@dataclass(slots=True)
class Fetched:
    """Values by the environment's name, and each lease with what would ask for it again."""

    values: dict[str, bytes] = field(default_factory=dict, repr=False)
    leases: list[tuple[Mapping[str, Any], dict[str, Any]]] = field(default_factory=list)

    def hold(self, leases: Leases, now: float) -> None:
        """From now on these are the leases of the run."""
        for lease, again in self.leases:
            leases.hold(again["name"], lease, now, again=again)


def fetch(ask: Ask, plan: Plan, terms: Terms) -> Fetched:
    """Every value that the plan wants.  Raises what stood in the way, having kept nothing."""
    wanted_by = _grouped(plan.wanted)
    bodies = [_body(*asked, terms) for asked in wanted_by]
    replies = ask([("get", body) for body in bodies])
    fetched = Fetched()
    failed: list[tuple[Wanted, SecretAgentError]] = []
    for group, body, reply in zip(wanted_by.values(), bodies, replies, strict=True):
        if isinstance(reply, SecretAgentError):
            failed += [(wanted, reply) for wanted in group if not _may_lack(wanted, reply)]
            continue
        (value,) = reply["fields"].values()
        fetched.values |= {wanted.name: value for wanted in group}
        fetched.leases.append((reply["lease"], {**body, "version": reply["version"]}))
    if failed:
        _give_back(ask, fetched)
        raise _failure(failed)
    return fetched


def place_files(
    workdir: Callable[[], Mapping[str, Any]], plan: Plan, fetched: Fetched
) -> ValueFiles:
    """Write the values that are wanted as files, where the agent or the kernel removes them.

    workdir: asks the agent for a folder; called only where there is a file to be written.
    """
    names = [wanted.name for wanted in plan.wanted if wanted.as_file]
    values = {name: fetched.values[name] for name in names if name in fetched.values}
    if not values:
        return ValueFiles({})
    try:
        folder = workdir()
    except SecretAgentError:  # a scoped socket makes no folders; an agent may be out of room
        return write_in_memory(values)
    if not folder["tmpfs"]:
        return write_in_memory(values)
    return write_in_folder(folder["path"], values)


def environment_of(plan: Plan, fetched: Fetched, files: ValueFiles) -> dict[bytes, bytes]:
    """The child's whole environment."""
    return child_environment(plan, {**fetched.values, **files.paths})


def unmasked_names(fetched: Fetched) -> list[str]:
    """What the warning names: values, and lines of values, that are too short to be masked."""
    short = [name for name, value in fetched.values.items() if not is_maskable(value)]
    lines = [
        f"some lines of {name}"
        for name, value in fetched.values.items()
        if is_maskable(value) and has_short_lines(value)
    ]
    return short + lines


def _grouped(every: Iterable[Wanted]) -> dict[tuple[Reference, str], list[Wanted]]:
    """What is asked for once, with all the names that want it."""
    groups: dict[tuple[Reference, str], list[Wanted]] = {}
    for wanted in every:
        channel = "file" if wanted.as_file else "env"
        groups.setdefault((wanted.reference, channel), []).append(wanted)
    return groups


def _body(reference: Reference, channel: str, terms: Terms) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": reference.name,
        "field": reference.field,
        "version": reference.version,
        "stage": reference.stage,
        "prefer_stage": terms.stage if reference.stage is None else None,
        "ttl_s": terms.ttl_s,
        "reason": terms.reason,
        "binding": "process",
        "channel": channel,
    }
    return {key: value for key, value in body.items() if value is not None}


def _may_lack(wanted: Wanted, error: SecretAgentError) -> bool:
    return isinstance(error, NotFoundError) and not wanted.required


def _give_back(ask: Ask, fetched: Fetched) -> None:
    ids = [lease["id"] for lease, _ in fetched.leases]
    ask([("release", {"leases": ids[at : at + 256]}) for at in range(0, len(ids), 256)])


def _failure(failed: list[tuple[Wanted, SecretAgentError]]) -> SecretAgentError:
    """One error for all, of the first one's kind."""
    wanted, first = failed[0]
    message = f"{wanted.name} ({wanted.reference}): {first.message}"
    if len(failed) > 1:
        others = ", ".join(other.name for other, _ in failed[1:])
        message += f"; neither could be had: {others}"
    return type(first)(message, remedy=first.remedy, rule=first.rule)
