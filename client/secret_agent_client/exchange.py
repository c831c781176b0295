"""What a client says and hears on one connection, sans-I/O: requests out, replies and events in.

Rules that hold here: no socket, no clock; hello goes out in front of the first request and its
reply is checked before any other is believed; a reply to nothing that was asked, or a frame that
is no message, ends the conversation for good.  The blocking and the trio connection both lean on
this, so that they cannot differ in what they accept.
"""

from secret_agent_client.errors import (
    InvalidError,
    NoAgentError,
    SecretAgentError,
    UnavailableError,
    from_wire,
)
from secret_agent_client.version import PROTOCOL
from secret_agent_client.wire import MAX_REPLY, MAX_REPLY_VALUES, Decoder, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Reply = dict[str, Any]

FEATURES = ("parts", "events", "descriptors")
MAX_EVENTS = 1024  # events kept for a reader; one this far behind has stopped reading
REPLACE = "secret-agent stop && eval $(secret-agent start)"
_HELLO = 0  # id of the hello; requests count from 1


class Exchange:
    """The state of one conversation.

    greeting: the `ok` of the hello, None until it came.  events: those not yet taken, oldest first.
    scope_only: anything but a scope's socket is refused, so nothing is to be asked before the
    greeting has come.
    """

    __slots__ = (
        "_decoder",
        "_hello",
        "_last_id",
        "_replies",
        "_waiting",
        "events",
        "greeting",
        "scope_only",
    )

    def __init__(self, *, client: str, scope_only: bool = False) -> None:
        self.scope_only = scope_only
        body = {"version": PROTOCOL, "features": FEATURES, "client": client}
        self._hello = encode({"id": _HELLO, "verb": "hello", "body": body})
        self._decoder = Decoder(max_message=MAX_REPLY, max_values=MAX_REPLY_VALUES)
        self._last_id = _HELLO
        self._waiting: set[int] = set()
        self._replies: dict[int, Reply | SecretAgentError] = {}
        self.greeting: Reply | None = None
        self.events: list[Reply] = []

    def hello(self) -> bytes:
        """The bytes that greet; empty once they were given out."""
        hello, self._hello = self._hello, b""
        return hello

    def request(self, verb: str, body: "Mapping[str, Any] | None") -> tuple[int, bytes]:
        """The id of a new request and the bytes that send it, hello apart.

        Raises InvalidError where it is larger than the wire allows.
        """
        data = encode({"id": self._last_id + 1, "verb": verb, "body": dict(body or {})})
        self._last_id += 1
        self._waiting.add(self._last_id)
        return self._last_id, data

    def feed(self, data: bytes) -> None:
        """Take what arrived.  Raises the SecretAgentError that ends the conversation."""
        self._decoder.feed(data)
        while (message := self._next()) is not None:
            self._sort(message)

    def has(self, request_id: int) -> bool:
        """Whether the answer to a request has come and was not taken."""
        return request_id in self._replies

    def take(self, request_id: int) -> "Reply | SecretAgentError | None":
        """The `ok` map or the error that answers a request, once; None while it has not come."""
        return self._replies.pop(request_id, None)

    def abandon(self, request_id: int) -> None:
        """Nobody waits for this reply any more; drop it when it comes."""
        self._replies.pop(request_id, None)
        if request_id in self._waiting:
            self._waiting.discard(request_id)
            self._waiting.add(-request_id)

    def _next(self) -> "Reply | None":
        try:
            return self._decoder.next()
        except InvalidError:
            raise _not_ours("something that is no message") from None

    def _sort(self, message: "Reply") -> None:
        if "event" in message:
            self.events.append(message)
            if len(self.events) > MAX_EVENTS:
                del self.events[0]
            return
        answer = _answer(message)
        request_id = message.get("id")
        if request_id == _HELLO and self.greeting is None:
            self.greeting = self._check_greeting(answer)
        elif request_id is None and isinstance(answer, SecretAgentError):
            raise answer
        elif self.greeting is None:
            raise _not_ours("a reply before its greeting")
        else:
            self._keep(request_id, answer)

    def _check_greeting(self, answer: "Reply | SecretAgentError") -> "Reply":
        if isinstance(answer, SecretAgentError):
            raise answer
        if answer.get("version") != PROTOCOL:
            raise UnavailableError(
                f"the agent does not speak version {PROTOCOL} of the protocol", remedy=REPLACE
            )
        if self.scope_only and answer.get("scope") is None:
            raise NoAgentError(
                "what answers at the socket is another user's own agent, and no scope",
                remedy="unset SECRET_AGENT_SOCK",
            )
        return answer

    def _keep(self, request_id: "Any", answer: "Reply | SecretAgentError") -> None:
        if type(request_id) is int and -request_id in self._waiting:
            self._waiting.discard(-request_id)
        elif type(request_id) is int and request_id in self._waiting:
            self._waiting.discard(request_id)
            self._replies[request_id] = answer
        else:
            raise _not_ours("a reply to nothing that was asked")


def _answer(message: "Reply") -> "Reply | SecretAgentError":
    ok, error = message.get("ok"), message.get("error")
    if isinstance(ok, dict) and error is None:
        return ok
    if isinstance(error, dict) and ok is None:
        return from_wire(error)
    raise _not_ours("a message that is neither reply nor event")


def _not_ours(what: str) -> NoAgentError:
    return NoAgentError(f"what answers at the socket sent {what}", remedy="secret-agent doctor")
