"""Whatever a peer sends, the agent answers or closes as documented, and serves the next peer."""

import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secret_agent_client.errors import BY_CODE
from secret_agent_client.messages import VERBS, Field
from secret_agent_client.wire import encode
from support.agent import Agent
from support.vectors import Vector, wire_vectors

pytestmark = pytest.mark.slow

# One agent for all examples is the point: it is to survive every one of them.
ON_ONE_AGENT = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

# These end what the other examples need: with its last shell the session locks.
ENDING = {"stop", "lock", "passwd", "unlock", "prompt-claim", "register", "unregister"}


def _serves(agent: Agent) -> bool:
    return bool(agent.call("status")["state"] == "unlocked")


@pytest.mark.parametrize("vector", wire_vectors("invalid"), ids=str)
def test_a_bad_frame_is_answered_and_the_connection_goes_on(vector: Vector, shared: Agent) -> None:
    with shared.connect() as peer:
        peer.hello()
        peer.send_bytes(vector.data)
        reply = peer.reply(None)
        assert reply["error"]["code"] == "invalid"
        assert peer.call("status")["state"] == "unlocked"


@pytest.mark.parametrize("vector", wire_vectors("closed"), ids=str)
def test_a_stream_out_of_step_is_answered_once_and_closed(vector: Vector, shared: Agent) -> None:
    with shared.connect() as peer:
        peer.hello()
        peer.send_bytes(vector.data)
        reply = peer.reply(None)
        assert reply["error"]["code"] == "invalid"
        assert peer.is_closed()
    assert _serves(shared)


@pytest.mark.parametrize("vector", wire_vectors("refused"), ids=str)
def test_a_message_that_is_no_request_is_answered(vector: Vector, shared: Agent) -> None:
    assert vector.message is not None
    with shared.connect() as peer:
        peer.hello()
        peer.send_bytes(vector.data)
        known = vector.message.get("id")
        reply = peer.reply(known if type(known) is int else None)
        assert reply["error"]["code"] == "invalid"
        assert peer.call("status")["state"] == "unlocked"


@pytest.mark.parametrize("vector", wire_vectors("more"), ids=str)
def test_a_beginning_that_is_given_up_harms_nobody(vector: Vector, shared: Agent) -> None:
    with shared.connect() as peer:
        peer.hello()
        peer.send_bytes(vector.data)
    assert _serves(shared)


@pytest.mark.parametrize("vector", wire_vectors("invalid", "closed"), ids=str)
def test_what_is_malformed_before_hello_gets_no_more(vector: Vector, shared: Agent) -> None:
    with shared.connect() as peer:
        peer.send_bytes(vector.data)
        message = peer.next_message()
        assert message is None or message["error"]["code"] == "invalid"
    assert _serves(shared)


@ON_ONE_AGENT
@given(st.binary(max_size=200))
def test_noise_is_answered_or_closed(shared: Agent, noise: bytes) -> None:
    with shared.connect() as peer:
        peer.hello()
        peer.send_bytes(noise)
        peer.socket.shutdown(1)
        while (message := peer.next_message()) is not None:
            assert message["error"]["code"] == "invalid"
    assert _serves(shared)


NAME = st.sampled_from(["payments/db", "a", "", "..", "a//b", "A", "x" * 255, "é", "*", "a/**"])
TEXT = NAME | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


def _values(known: Field) -> st.SearchStrategy[Any]:
    """Values of the right kind, hostile ones among them."""
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "uint": st.sampled_from([0, 1, known.most]) | st.integers(0, known.most),
        "bool": st.booleans(),
        "text": TEXT.map(lambda text: text[: known.most]),
        "bytes": st.binary(max_size=20),
        "texts": st.lists(TEXT, max_size=3),
        "uints": st.lists(st.integers(0, 2**32 - 1), max_size=3),
        "fields": st.dictionaries(
            TEXT.filter(lambda text: 0 < len(text) < 64), st.binary(max_size=9)
        ),
    }
    return kinds[known.kind]


@st.composite
def _requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    verb = VERBS[draw(st.sampled_from(sorted(set(VERBS) - ENDING)))]
    chosen = [n for n, f in verb.fields.items() if f.required or draw(st.booleans())]
    return verb.name, {name: draw(_values(verb.fields[name])) for name in chosen}


@ON_ONE_AGENT
@given(st.lists(_requests(), min_size=1, max_size=5))
def test_any_well_formed_request_gets_a_documented_reply(
    shared: Agent, requests: list[tuple[str, dict[str, Any]]]
) -> None:
    with shared.connect() as peer:
        peer.hello()
        for verb, body in requests:
            reply = peer.ask(verb, body)
            if "error" in reply:
                assert reply["error"]["code"] in set(BY_CODE) - {"internal", "no-agent"}, reply
                assert reply["error"]["message"]
            else:
                assert isinstance(reply["ok"], dict)
    assert _serves(shared)


def test_a_flood_of_requests_in_one_write_is_answered_in_order(shared: Agent) -> None:
    """SECURITY-CASES 5.9: ten thousand at once; the agent reads as fast as it answers."""
    count = 10_000
    flood = b"".join(encode({"id": n, "verb": "scopes"}) for n in range(count))
    with shared.connect() as peer:
        peer.hello()
        sending = threading.Thread(target=peer.send_bytes, args=[flood])
        sending.start()
        for expected in range(count):
            message = peer.next_message()
            assert message is not None
            assert message["id"] == expected
        sending.join()
    assert _serves(shared)
