"""Cached values are ciphertext, bounded, and gone after a wipe."""

import timeit

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secret_agent import sealed_memory
from secret_agent.hardening import LockedPage
from secret_agent.sealed_memory import KEY_SIZE, SealedCache
from secret_agent_client.value import SecretValue


def cache_of(*keys: str, size: int = 4) -> SealedCache[str, str]:
    cache: SealedCache[str, str] = SealedCache(LockedPage(KEY_SIZE))
    for key in keys:
        cache.put(key, f"about {key}", {"f": SecretValue(b"x" * size)})
    return cache


def test_a_field_comes_back_and_its_metadata_needs_no_opening() -> None:
    cache = cache_of("a")
    assert cache.meta("a") == "about a"
    assert cache.open("a", "f") == SecretValue(b"xxxx")
    assert cache.meta("b") is None
    with pytest.raises(KeyError):
        cache.open("a", "g")


def test_what_is_kept_is_not_the_value() -> None:
    cache: SealedCache[str, str] = SealedCache(LockedPage(KEY_SIZE))
    cache.put("a", "", {"f": SecretValue(b"canary-canary")})
    assert b"canary" not in repr(vars(cache)).encode()


def test_what_is_dropped_or_wiped_is_gone() -> None:
    cache = cache_of("a", "b")
    cache.drop("a")
    cache.drop("a")
    assert cache.meta("a") is None
    cache.wipe()
    assert cache.meta("b") is None


def test_the_least_recently_used_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_memory, "MAX_ENTRIES", 2)
    cache = cache_of("a", "b")
    cache.meta("a")
    cache.put("c", "", {})
    assert [cache.meta(key) is not None for key in "abc"] == [True, False, True]


def test_its_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_memory, "MAX_BYTES", 100)
    cache = cache_of("a", "b", "c", size=30)
    assert cache.meta("a") is None
    assert cache.meta("c") is not None
    cache.put("d", "", {"f": SecretValue(b"x" * 200)})
    assert cache.meta("d") is None


def test_the_key_stands_in_its_page_alone_and_no_cipher_outlives_an_operation() -> None:
    page = LockedPage(KEY_SIZE)
    cache: SealedCache[str, str] = SealedCache(page)
    key = bytes(page.buffer)
    assert len(set(key)) > KEY_SIZE // 4, "it was drawn"
    cache.put("a", "", {"f": SecretValue(b"x")})
    cache.open("a", "f")
    assert key not in repr(vars(cache)).encode()
    assert not [each for each in vars(cache).values() if isinstance(each, AESGCM)]


def test_a_wipe_overwrites_the_key_and_nothing_is_sealed_or_opened_any_more() -> None:
    class Watched(LockedPage):
        after = b""

        def close(self) -> None:
            self.wipe()
            self.after = bytes(self.buffer)
            super().close()

    page = Watched(KEY_SIZE)
    cache: SealedCache[str, str] = SealedCache(page)
    cache.put("a", "", {"f": SecretValue(b"x")})
    cache.wipe()
    assert page.after == bytes(KEY_SIZE)
    with pytest.raises(KeyError):
        cache.open("a", "f")
    with pytest.raises((TypeError, ValueError)):  # the page has been given back
        cache.put("a", "", {"f": SecretValue(b"x")})


def test_two_caches_have_two_keys_and_a_value_sealed_twice_looks_different() -> None:
    pages = [LockedPage(KEY_SIZE), LockedPage(KEY_SIZE)]
    caches: list[SealedCache[str, str]] = [SealedCache(page) for page in pages]
    assert bytes(pages[0].buffer) != bytes(pages[1].buffer)
    for cache in caches:
        for key in "ab":
            cache.put(key, "", {"f": SecretValue(b"the same")})
    sealed = {cache._entries[key][1]["f"] for cache in caches for key in "ab"}
    assert len(sealed) == 4


def test_those_that_are_chosen_are_dropped_and_their_size_with_them() -> None:
    cache = cache_of("a", "b", "ab")
    cache.drop_where(lambda key: key.startswith("a"))
    assert [cache.meta(key) is not None for key in ("a", "b", "ab")] == [False, True, False]
    assert cache._size == 12 + 4 + 16  # the nonce, the value, the tag of the one that is left


def test_opening_a_value_takes_microseconds() -> None:
    cache = cache_of("a", size=40)
    best_s = min(timeit.repeat(lambda: cache.open("a", "f"), number=100, repeat=20)) / 100
    assert best_s < 10e-6
