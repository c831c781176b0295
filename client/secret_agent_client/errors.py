"""Every error that crosses a boundary: one root, one class where a caller acts differently.

Rules that hold here:

* a message is a lower-case sentence without a full stop; it names the field and never a value;
* `remedy` is a command that the person can type, or None where nothing can be typed;
* the codes and exit statuses are the contract of the command line and of the wire.

This module imports nothing, so that the short path of `secret-agent get` can use it.
"""


class SecretAgentError(Exception):
    """Abstract root.  Never raised itself."""

    code = "internal"
    exit_status = 1

    def __init__(self, message: str, *, remedy: str | None = None, rule: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.rule = rule

    def to_wire(self) -> dict[str, str]:
        """The `error` map of a reply: `code`, `message`, and `try` and `rule` where known."""
        body = {"code": self.code, "message": self.message}
        if self.remedy is not None:
            body["try"] = self.remedy
        if self.rule is not None:
            body["rule"] = self.rule
        return body


class InternalError(SecretAgentError):
    """A bug of ours, or something that no other class describes."""


class UsageError(SecretAgentError):
    """The arguments of a command do not fit together."""

    code = "usage"
    exit_status = 2


class InvalidError(SecretAgentError):
    """Data does not fit its type: a name, a duration, a file, a frame."""

    code = "invalid"
    exit_status = 2


class LockedError(SecretAgentError):
    """The session is locked, or there is none yet."""

    code = "locked"
    exit_status = 3


class DeniedError(SecretAgentError):
    """Policy, or a person at the prompt, said no."""

    code = "denied"
    exit_status = 4


class NotFoundError(SecretAgentError):
    """No such secret, field, version, lease or scope, or none that the caller may know of."""

    code = "not-found"
    exit_status = 5


class NoAgentError(SecretAgentError):
    """No agent answers at the socket, or what answers is not owned by us."""

    code = "no-agent"
    exit_status = 6


class UnavailableError(SecretAgentError):
    """Something that was asked (provider, disk, keyring, the agent) refused or was too slow."""

    code = "unavailable"
    exit_status = 7


class ExpiredError(SecretAgentError):
    """The lease, scope or token is over."""

    code = "expired"
    exit_status = 8


BY_CODE: dict[str, type[SecretAgentError]] = {
    kind.code: kind
    for kind in (
        InternalError,
        UsageError,
        InvalidError,
        LockedError,
        DeniedError,
        NotFoundError,
        NoAgentError,
        UnavailableError,
        ExpiredError,
    )
}
"""From the code on the wire to the class; a code that a newer agent invents: InternalError."""


def from_wire(body: dict[str, object]) -> SecretAgentError:
    """The error that a reply's `error` map describes."""
    kind = BY_CODE.get(str(body.get("code")), InternalError)
    remedy, rule = body.get("try"), body.get("rule")
    return kind(
        str(body.get("message", "the agent gave no reason")),
        remedy=None if remedy is None else str(remedy),
        rule=None if rule is None else str(rule),
    )
