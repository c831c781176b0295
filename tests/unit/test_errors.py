"""Errors: one root, a code and an exit status each, the same on both ends of the wire."""

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent_client import errors
from secret_agent_client.codec import pack, unpack
from secret_agent_client.errors import BY_CODE, InternalError, SecretAgentError, from_wire

# The table of the command line's contract.
CONTRACT = {
    "internal": 1,
    "usage": 2,
    "invalid": 2,
    "locked": 3,
    "denied": 4,
    "not-found": 5,
    "no-agent": 6,
    "unavailable": 7,
    "expired": 8,
}

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_codes_and_exit_statuses_are_the_contract() -> None:
    assert {code: kind.exit_status for code, kind in BY_CODE.items()} == CONTRACT


def test_every_class_of_the_module_is_in_the_table() -> None:
    made = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, SecretAgentError)
    }
    assert made - {SecretAgentError} == set(BY_CODE.values())


@given(st.sampled_from(sorted(BY_CODE)), TEXT, st.none() | TEXT, st.none() | TEXT)
def test_an_error_crosses_the_wire_unchanged(
    code: str, message: str, remedy: str | None, rule: str | None
) -> None:
    error = BY_CODE[code](message, remedy=remedy, rule=rule)
    body = unpack(pack(error.to_wire()))
    assert isinstance(body, dict)
    arrived = from_wire(body)
    assert type(arrived) is BY_CODE[code]
    assert (arrived.message, arrived.remedy, arrived.rule) == (message, remedy, rule)
    assert str(arrived) == message


def test_what_is_not_known_is_not_sent() -> None:
    assert InternalError("it broke").to_wire() == {"code": "internal", "message": "it broke"}
    assert errors.DeniedError("no", rule="r", remedy="t").to_wire() == {
        "code": "denied",
        "message": "no",
        "rule": "r",
        "try": "t",
    }


def test_a_code_that_a_newer_agent_invents_is_an_internal_error() -> None:
    arrived = from_wire({"code": "quantum", "message": "entangled"})
    assert type(arrived) is InternalError
    assert arrived.message == "entangled"


@pytest.mark.parametrize("body", [{}, {"code": 7, "message": 7, "try": 7, "rule": 7}])
def test_an_error_that_makes_no_sense_is_still_an_error(body: dict[str, Any]) -> None:
    arrived = from_wire(body)
    assert type(arrived) is InternalError
    assert isinstance(arrived.message, str)
    assert arrived.remedy in (None, "7")
    assert arrived.rule in (None, "7")


def test_an_error_survives_copying() -> None:
    """Test runners that use several processes, and executors, pickle what was raised."""
    error = errors.LockedError("the session is locked", remedy="secret-agent unlock", rule="r")
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301  # our own
        assert type(twin) is errors.LockedError
        assert (twin.message, twin.remedy, twin.rule) == (error.message, error.remedy, error.rule)
