"""The conversation without a socket: what is believed, and what ends it."""

from typing import Any

import pytest

from secret_agent_client.errors import (
    DeniedError,
    NoAgentError,
    SecretAgentError,
    UnavailableError,
)
from secret_agent_client.exchange import MAX_EVENTS, Exchange
from secret_agent_client.wire import Decoder, encode
from support.fake_agent import GREETING

HELLO = {"id": 0, "ok": GREETING}


def greeted() -> Exchange:
    exchange = Exchange(client="t")
    exchange.hello()
    exchange.feed(encode(HELLO))
    return exchange


def only(data: bytes) -> dict[str, Any]:
    decoder = Decoder()
    decoder.feed(data)
    message = decoder.next()
    assert message is not None
    return message


def test_hello_is_said_once_and_first() -> None:
    exchange = Exchange(client="t")
    hello = only(exchange.hello())
    assert (hello["id"], hello["verb"], hello["body"]["version"]) == (0, "hello", 1)
    assert exchange.hello() == b""


def test_replies_find_their_requests_in_any_order() -> None:
    exchange = greeted()
    first, _ = exchange.request("status", None)
    second, _ = exchange.request("ls", {"glob": "*"})
    exchange.feed(encode({"id": second, "ok": {"n": 2}}) + encode({"id": first, "ok": {"n": 1}}))
    assert (exchange.take(first), exchange.take(second)) == ({"n": 1}, {"n": 2})
    assert exchange.take(first) is None


def test_an_error_is_the_class_that_its_code_names() -> None:
    exchange = greeted()
    request_id, _ = exchange.request("get", {"name": "a"})
    wanted = DeniedError("no", remedy="ask", rule="r1")
    exchange.feed(encode({"id": request_id, "error": wanted.to_wire()}))
    answer = exchange.take(request_id)
    assert isinstance(answer, DeniedError)
    assert (answer.message, answer.remedy, answer.rule) == ("no", "ask", "r1")


def test_bytes_may_come_one_at_a_time() -> None:
    exchange = greeted()
    request_id, _ = exchange.request("status", None)
    for byte in encode({"id": request_id, "ok": {"x": b"\0"}}):
        assert exchange.take(request_id) is None
        exchange.feed(bytes([byte]))
    assert exchange.take(request_id) == {"x": b"\0"}


def test_events_are_kept_apart_and_the_oldest_go_first() -> None:
    exchange = greeted()
    for number in range(MAX_EVENTS + 2):
        exchange.feed(encode({"event": "lease-ended", "body": {"n": number}}))
    assert len(exchange.events) == MAX_EVENTS
    assert exchange.events[0]["body"] == {"n": 2}


ENDS: dict[str, tuple[bytes, type[SecretAgentError], str]] = {
    "a reply to nothing": (encode({"id": 7, "ok": {}}), NoAgentError, "nothing that was asked"),
    "a second hello": (encode(HELLO), NoAgentError, "nothing that was asked"),
    "neither reply nor event": (encode({"id": 1}), NoAgentError, "neither reply nor event"),
    "both ok and error": (
        encode({"id": 1, "ok": {}, "error": {"code": "denied"}}),
        NoAgentError,
        "neither reply",
    ),
    "an ok that is no map": (encode({"id": 1, "ok": 3}), NoAgentError, "neither reply"),
    "no message": (b"\0\0\0\1\xc1", NoAgentError, "no message"),
    "a frame out of step": (b"HTTP/1.1 400 Bad Request\r\n", NoAgentError, "no message"),
    "an error for nobody": (
        encode({"id": None, "error": DeniedError("not you").to_wire()}),
        DeniedError,
        "not you",
    ),
}


@pytest.mark.parametrize(("data", "kind", "text"), ENDS.values(), ids=ENDS)
def test_what_ends_the_conversation(data: bytes, kind: type[SecretAgentError], text: str) -> None:
    with pytest.raises(kind, match=text):
        greeted().feed(data)


def test_a_reply_before_the_greeting_is_not_believed() -> None:
    exchange = Exchange(client="t")
    request_id, _ = exchange.request("status", None)
    with pytest.raises(NoAgentError, match="before its greeting"):
        exchange.feed(encode({"id": request_id, "ok": {}}))


def test_an_agent_of_another_version_says_how_to_replace_it() -> None:
    exchange = Exchange(client="t")
    with pytest.raises(UnavailableError, match="version 1 of the protocol") as raised:
        exchange.feed(encode({"id": 0, "ok": {**GREETING, "version": 2}}))
    assert raised.value.remedy == "secret-agent stop && eval $(secret-agent start)"


def test_an_agent_that_refuses_our_version_is_heard() -> None:
    exchange = Exchange(client="t")
    refusal = UnavailableError("old", remedy="secret-agent stop && secret-agent start")
    with pytest.raises(UnavailableError, match="old"):
        exchange.feed(encode({"id": 0, "error": refusal.to_wire()}))


def test_where_only_a_scope_will_do_a_control_socket_is_refused() -> None:
    with pytest.raises(NoAgentError, match="no scope"):
        Exchange(client="t", scope_only=True).feed(encode(HELLO))
    exchange = Exchange(client="t", scope_only=True)
    exchange.feed(encode({"id": 0, "ok": {**GREETING, "scope": "s-1"}}))
    assert exchange.greeting is not None


def test_an_abandoned_reply_is_dropped_when_it_comes() -> None:
    exchange = greeted()
    request_id, _ = exchange.request("get", {"name": "a"})
    exchange.abandon(request_id)
    exchange.feed(encode({"id": request_id, "ok": {}}))
    assert not exchange.has(request_id)
    with pytest.raises(NoAgentError, match="nothing that was asked"):
        exchange.feed(encode({"id": request_id, "ok": {}}))


def test_nothing_that_was_sent_is_echoed_in_an_error() -> None:
    with pytest.raises(NoAgentError) as raised:
        greeted().feed(encode({"id": 9, "ok": {"v": b"canary-value"}}))
    assert "canary" not in str(raised.value)
