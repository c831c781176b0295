"""Scopes: attenuated sockets, a real boundary.  A scope can do no more than it says, nor than its
maker may, and less with
every level.

Pure: what a scope permits, what is left of it and which scopes end with which; the sockets are the
server's.
A scope made through a scope is checked against every ancestor at every request, so that it cannot
be wider than any of
them whatever was written into it.  Ids are names, not capabilities: what speaks is the socket that
was connected to.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from secret_agent.model import Holder, ProcessKey
from secret_agent_client.errors import DeniedError, ExpiredError, NotFoundError
from secret_agent_client.references import glob_matches

MAX_DEPTH = 2  # a scope, and one more level made through it
MAX_SCOPES = 1024
MAX_CHILDREN = 16  # of one scope, so that who holds it leaves room for the user's own


@dataclass(slots=True, eq=False)
class Scope:
    """One attenuated socket.  Times are boot times in seconds."""

    allow: tuple[str, ...]
    deny: tuple[str, ...]
    stage: str | None  # this stage and no other; None: any
    uids: frozenset[int]  # who may connect
    maker: Holder  # whose standing under the policy each request of the scope is judged by
    expires: float
    uses_left: int | None
    bound: ProcessKey | None
    parent: str | None
    socket_path: str
    depth: int = 1
    id: str = field(default_factory=lambda: "s-" + secrets.token_hex(8))


class ScopeTable:
    """All scopes that are alive."""

    def __init__(self) -> None:
        self._by_id: dict[str, Scope] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Scope]:
        return iter(list(self._by_id.values()))

    def get(self, scope_id: str) -> Scope:
        """The scope of that id.  Raises NotFoundError."""
        scope = self._by_id.get(scope_id)
        if scope is None:
            raise NotFoundError("no such scope", remedy="secret-agent scopes")
        return scope

    def add(self, scope: Scope) -> None:
        """Enter a scope.  Raises DeniedError where there are too many, or where it is nested too
        deep.
        """
        if len(self._by_id) >= MAX_SCOPES:
            raise DeniedError(
                f"there are {MAX_SCOPES} scopes already", remedy="secret-agent scopes"
            )
        if scope.parent is not None:
            scope.depth = self.get(scope.parent).depth + 1
            if len(self._children(scope.parent)) >= MAX_CHILDREN:
                raise DeniedError(f"{MAX_CHILDREN} scopes were made through this one already")
        if scope.depth > MAX_DEPTH:
            raise DeniedError("a scope made through a scope cannot make another")
        self._by_id[scope.id] = scope

    def lineage(self, scope_id: str) -> list[Scope]:
        """The scope and its ancestors, itself first.  Raises NotFoundError when any of them is
        over.
        """
        scope = self.get(scope_id)
        chain = [scope]
        while scope.parent is not None:
            scope = self.get(scope.parent)
            chain.append(scope)
        return chain

    def permits(self, scope_id: str, name: str, stage: str) -> bool:
        """Whether the scope and all its ancestors let this secret through, by name and stage."""
        # The outermost first: what it keeps out costs nothing of what was written into the others.
        return all(
            _names(scope, name) and scope.stage in (None, stage)
            for scope in reversed(self.lineage(scope_id))
        )

    def shows(self, scope_id: str, name: str) -> bool:
        """Whether the scope and all its ancestors let this name through, whatever its stage."""
        return all(_names(scope, name) for scope in reversed(self.lineage(scope_id)))

    def remaining_s(self, scope_id: str, now: float) -> float:
        """Seconds until the first of the scope and its ancestors ends.  Raises ExpiredError when
        one has.
        """
        left = min(scope.expires for scope in self.lineage(scope_id)) - now
        if left <= 0:
            raise ExpiredError("the scope is over")
        return left

    def spend(self, scope_id: str) -> None:
        """Take one use from the scope and all its ancestors.  Raises ExpiredError, taking none,
        when one has none.
        """
        chain = self.lineage(scope_id)
        if any(scope.uses_left == 0 for scope in chain):
            raise ExpiredError("the uses of the scope are spent")
        for scope in chain:
            if scope.uses_left is not None:
                scope.uses_left -= 1

    def remove(self, scope_id: str) -> list[Scope]:
        """Take out a scope and all that were made through it; those that ended, itself first."""
        scope = self._by_id.pop(scope_id, None)
        if scope is None:
            return []
        ended = [scope]
        for child in self._children(scope_id):
            ended += self.remove(child.id)
        return ended

    def _children(self, scope_id: str) -> list[Scope]:
        return [scope for scope in self._by_id.values() if scope.parent == scope_id]

    def expired(self, now: float) -> list[Scope]:
        """The scopes whose time is over; still in the table until `remove`."""
        return [scope for scope in self._by_id.values() if scope.expires <= now]

    def next_expiry(self) -> float | None:
        """The earliest boot time at which `expired` has something."""
        return min((scope.expires for scope in self._by_id.values()), default=None)


def _names(scope: Scope, name: str) -> bool:
    return any(glob_matches(glob, name) for glob in scope.allow) and not any(
        glob_matches(glob, name) or glob_matches(glob + "/**", name) for glob in scope.deny
    )
