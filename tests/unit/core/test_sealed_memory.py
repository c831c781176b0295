"""Cached values are ciphertext, bounded, and gone after a wipe."""

import pytest

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
