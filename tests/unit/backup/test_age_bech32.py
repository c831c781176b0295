"""Bech32: BIP 173's own strings, every round trip, and no string with one character changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent.backup import bech32
from secret_agent_client.errors import InvalidError

VALID = [  # BIP 173, "Test vectors"; the last one is age's own
    "A12UEL5L",
    "a12uel5l",
    "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
    "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
    "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
    "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj",
]
INVALID = {
    "pzry9x0s0muk": "no separator",
    "1pzry9x0s0muk": "no prefix",
    "x1b4n0q5v": "a character that is none",
    "li1dgmt3": "too short a checksum",
    "A1G7SGD8": "a checksum over the prefix in upper case",
    "10a06t8": "no prefix",
    "1qzzfhee": "no prefix",
    "a12UEL5L": "mixed case",
    "äge1zvkyg": "not ASCII",
}


@pytest.mark.parametrize("text", VALID)
def test_a_valid_string_is_accepted(text: str) -> None:
    prefix, data = bech32.decode(text)
    assert bech32.encode(prefix, data) == text.lower()


@pytest.mark.parametrize("text", INVALID)
def test_an_invalid_string_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        bech32.decode(text)


@pytest.mark.parametrize("groups", [[1], [0], [0, 1], [0, 0, 0, 0, 0, 0, 0, 0, 0]])
def test_bits_left_over_are_refused(groups: list[int]) -> None:
    check = bech32._polymod(bech32._expand("a") + groups + [0] * 6) ^ 1
    values = groups + [(check >> 5 * (5 - at)) & 31 for at in range(6)]
    text = "a1" + "".join(bech32._CHARSET[value] for value in values)
    with pytest.raises(InvalidError, match="mean nothing"):
        bech32.decode(text)


@given(st.binary(max_size=70))
def test_what_is_encoded_decodes_to_itself(data: bytes) -> None:
    assert bech32.decode(bech32.encode("age", data)) == ("age", data)
    assert bech32.decode(bech32.encode("age", data).upper()) == ("age", data)


@given(st.binary(min_size=1, max_size=40), st.data())
def test_one_changed_character_is_always_noticed(data: bytes, draw: st.DataObject) -> None:
    text = bech32.encode("age", data)
    at = draw.draw(st.integers(4, len(text) - 1))
    other = draw.draw(
        st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l").filter(lambda char: char != text[at])
    )
    with pytest.raises(InvalidError) as caught:
        bech32.decode(text[:at] + other + text[at + 1 :])
    assert text[:8] not in str(caught.value)
