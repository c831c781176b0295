"""Sealing: what was sealed opens under the same key and data, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent.store.seal import BrokenSealError, Sealed, Sealer, wipe
from secret_agent_client.errors import InvalidError

KEY = bytes(range(32))
texts = st.binary(max_size=200)


@given(texts, texts)
def test_what_is_sealed_opens(plain: bytes, aad: bytes) -> None:
    sealer = Sealer(KEY)
    sealed = sealer.seal(plain, aad)
    assert sealer.open(sealed, aad) == plain
    assert sealer.open(Sealed.unpack(sealed.pack()), aad) == plain


@given(texts, texts, st.data())
def test_any_changed_bit_breaks_the_seal(plain: bytes, aad: bytes, draw: st.DataObject) -> None:
    sealer = Sealer(KEY)
    packed = bytearray(sealer.seal(plain, aad).pack())
    at = draw.draw(st.integers(0, len(packed) * 8 - 1))
    packed[at // 8] ^= 1 << at % 8
    with pytest.raises(BrokenSealError):
        sealer.open(Sealed.unpack(bytes(packed)), aad)


@given(texts, texts, texts)
def test_other_data_or_another_key_breaks_the_seal(plain: bytes, aad: bytes, other: bytes) -> None:
    sealed = Sealer(KEY).seal(plain, aad)
    with pytest.raises(BrokenSealError):
        Sealer(KEY).open(sealed, aad + b"x" + other)
    with pytest.raises(BrokenSealError):
        Sealer(bytes(32)).open(sealed, aad)


def test_nonces_do_not_repeat() -> None:
    sealer = Sealer(KEY)
    assert len({sealer.seal(b"", b"").nonce for _ in range(5000)}) == 5000


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33, 64])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidError, match=f"a sealing key has {size} bytes; it needs 32"):
        Sealer(bytes(size))


@pytest.mark.parametrize(("nonce", "tag"), [(0, 16), (8, 16), (16, 16), (12, 12), (12, 0)])
def test_a_nonce_or_tag_of_another_size_is_refused(nonce: int, tag: int) -> None:
    with pytest.raises(BrokenSealError, match="they have 12 and 16"):
        Sealer(KEY).open(Sealed(bytes(nonce), bytes(tag), b""), b"")


@pytest.mark.parametrize("size", [0, 27])
def test_what_is_shorter_than_nonce_and_tag_is_refused(size: int) -> None:
    with pytest.raises(BrokenSealError, match="shorter than its nonce and tag"):
        Sealed.unpack(bytes(size))


def test_after_forget_nothing_is_sealed_or_opened() -> None:
    sealer = Sealer(KEY)
    sealed = sealer.seal(b"text", b"")
    sealer.forget()
    with pytest.raises(AssertionError):
        sealer.open(sealed, b"")
    with pytest.raises(AssertionError):
        sealer.seal(b"text", b"")


def test_wiping_keeps_the_length_and_nothing_else() -> None:
    buffer = bytearray(b"secret")
    wipe(buffer)
    assert buffer == bytes(6)
