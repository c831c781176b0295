"""What a run holds: values, the leases they came under, the files that hold some of them.

Rules that hold here: all or nothing: where one required secret cannot be had, the leases of the
others are given back and nothing is started (T31); a value is kept only where it is needed: in the
child's environment, in its files, and in what the masker looks for; no message names a value.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from secret_agent_client.encodings import has_short_lines, is_maskable
from secret_agent_client.environment import Plan, Wanted, child_environment
from secret_agent_client.errors import LockedError, NotFoundError, SecretAgentError
from secret_agent_client.files import ValueFiles, write_in_folder, write_in_memory
from secret_agent_client.references import Reference
from secret_agent_client.run_leases import Leases

Request = tuple[str, dict[str, Any]]
Reply = dict[str, Any] | SecretAgentError
Unlock = Callable[[dict[str, Any]], dict[str, Any]]
"""Asks the person to unlock, and repeats the `get` of that body; its `ok`."""

AT_ONCE = 64  # requests sent before their replies are read


class Agent(Protocol):
    """What is asked of a connection to the agent."""

    def call(
        self, verb: str, body: dict[str, Any] | None = None, *, deadline_s: float = 30.0
    ) -> dict[str, Any]: ...
    def call_many(self, requests: list[Request]) -> list[Reply]: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """How the values are asked for."""

    stage: str | None = None  # preferred; a reference that names its own keeps it
    ttl_s: int | None = None
    reason: str | None = None


@dataclass(slots=True)
class Fetched:
    """Values by the environment's name, and leases by the secret's, as they came."""

    values: dict[str, bytes] = field(default_factory=dict, repr=False)
    leases: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def hold(self, leases: Leases, now: float) -> None:
        """From now on these are the leases of the run."""
        for secret, lease in self.leases:
            leases.hold(secret, lease, now)


def fetch(agent: Agent, plan: Plan, terms: Terms, unlock: Unlock | None = None) -> Fetched:
    """Every value that the plan wants.  Raises what stood in the way, having kept nothing.

    unlock: None where nobody may be asked.
    """
    wanted_by = _grouped(plan.wanted)
    bodies = [_body(reference, as_file, terms) for reference, as_file in wanted_by]
    replies: list[Reply] = []
    for at in range(0, len(bodies), AT_ONCE):
        replies += agent.call_many([("get", body) for body in bodies[at : at + AT_ONCE]])
    if unlock is not None:
        replies = [
            _again(unlock, body) if isinstance(reply, LockedError) else reply
            for body, reply in zip(bodies, replies, strict=True)
        ]
    fetched = Fetched()
    failed: list[tuple[Wanted, SecretAgentError]] = []
    for group, reply in zip(wanted_by.values(), replies, strict=True):
        if isinstance(reply, SecretAgentError):
            failed += [(wanted, reply) for wanted in group if not _may_lack(wanted, reply)]
            continue
        (value,) = reply["fields"].values()
        fetched.values |= {wanted.name: value for wanted in group}
        fetched.leases.append((group[0].reference.name, reply["lease"]))
    if failed:
        _give_back(agent, fetched)
        raise _failure(failed)
    return fetched


def place_files(agent: Agent, plan: Plan, fetched: Fetched) -> ValueFiles:
    """Write the values that are wanted as files, where the agent or the kernel removes them."""
    names = [wanted.name for wanted in plan.wanted if wanted.as_file]
    values = {name: fetched.values[name] for name in names if name in fetched.values}
    if not values:
        return ValueFiles({})
    try:
        folder = agent.call("workdir")
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


def _grouped(every: Iterable[Wanted]) -> dict[tuple[Reference, bool], list[Wanted]]:
    """What is asked for once, with all the names that want it."""
    groups: dict[tuple[Reference, bool], list[Wanted]] = {}
    for wanted in every:
        groups.setdefault((wanted.reference, wanted.as_file), []).append(wanted)
    return groups


def _body(reference: Reference, as_file: bool, terms: Terms) -> dict[str, Any]:  # noqa: FBT001  # a dict's key
    body: dict[str, Any] = {
        "name": reference.name,
        "field": reference.field,
        "version": reference.version,
        "stage": reference.stage,
        "prefer_stage": terms.stage if reference.stage is None else None,
        "ttl_s": terms.ttl_s,
        "reason": terms.reason,
        "binding": "process",
        "channel": "file" if as_file else "env",
    }
    return {key: value for key, value in body.items() if value is not None}


def _again(unlock: Unlock, body: dict[str, Any]) -> Reply:
    try:
        return unlock(body)
    except SecretAgentError as error:
        return error


def _may_lack(wanted: Wanted, error: SecretAgentError) -> bool:
    return isinstance(error, NotFoundError) and not wanted.required


def _give_back(agent: Agent, fetched: Fetched) -> None:
    ids = [lease["id"] for _, lease in fetched.leases]
    if ids:
        agent.call_many([("release", {"leases": ids[:256]})])  # one refused is one that is over


def _failure(failed: list[tuple[Wanted, SecretAgentError]]) -> SecretAgentError:
    """One error for all, of the first one's kind."""
    wanted, first = failed[0]
    message = f"{wanted.name} ({wanted.reference}): {first.message}"
    if len(failed) > 1:
        others = ", ".join(other.name for other, _ in failed[1:])
        message += f"; neither could be had: {others}"
    return type(first)(message, remedy=first.remedy, rule=first.rule)
