"""The key is asked for where operating systems keep such keys, checked, and never replaced."""

import base64
import importlib
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from secret_agent import keyring_key
from secret_agent.keyring_key import KEY_SIZE, SERVICE, read_key, read_or_make_key
from secret_agent_client.errors import InvalidError, UnavailableError

STORE = Path("/data/store.db")


class Kept:
    """A back end that keeps what it is told to."""

    priority: Any = 5.0

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}
        self.forgets = False

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if not self.forgets:
            self.entries[service, username] = password


def install(monkeypatch: pytest.MonkeyPatch, *backends: Any) -> None:
    """Let these be the back ends that this system has."""
    plain = importlib.import_module
    modules = {f"own.backend{at}": each for at, each in enumerate(backends)}

    def import_module(name: str, package: str | None = None) -> Any:
        if name in modules:
            return SimpleNamespace(Keyring=lambda: modules[name])
        return plain(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    table = tuple((f"the {name}", name, "Keyring") for name in modules)
    monkeypatch.setattr(keyring_key, "BACKENDS", table)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    backend = Kept()
    install(monkeypatch, backend)
    return backend


def test_a_key_is_made_once_and_read_from_then_on(kept: Kept) -> None:
    assert read_key(STORE) is None
    key = read_or_make_key(STORE)
    assert len(key) == KEY_SIZE
    assert isinstance(key, bytearray), "it can be overwritten"
    assert read_or_make_key(STORE) == read_key(STORE) == key
    assert list(kept.entries) == [(SERVICE, str(STORE))]
    assert read_key(Path("/other/store.db")) is None


def test_of_two_who_make_one_at_once_both_have_the_same(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store would be made with a key that the keyring no longer has."""
    plain, together = kept.get_password, threading.Barrier(2)

    def get_password(service: str, username: str) -> str | None:
        found = plain(service, username)
        with suppress(threading.BrokenBarrierError):
            together.wait(0.2)  # let the other one come to the same point, if it can
        return found

    monkeypatch.setattr(kept, "get_password", get_password)
    made: list[bytearray] = []
    threads = [
        threading.Thread(target=lambda: made.append(read_or_make_key(STORE))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made[0] == made[1] == read_key(STORE)


def test_a_keyring_that_does_not_keep_it_is_found_out(kept: Kept) -> None:
    kept.forgets = True
    with pytest.raises(UnavailableError, match="the keyring did not keep the key"):
        read_or_make_key(STORE)


@pytest.mark.parametrize(
    "text", ["", "QUJD", "!" * 44, "ä" * 44, base64.b64encode(b"x" * 33).decode()]
)
def test_what_is_no_key_of_ours_is_refused_unsaid_and_not_replaced(kept: Kept, text: str) -> None:
    kept.entries[SERVICE, str(STORE)] = text
    for ask in (read_key, read_or_make_key):
        with pytest.raises(InvalidError) as caught:
            ask(STORE)
        assert caught.value.message == "what the keyring holds for this store is not a key of ours"
    assert kept.entries[SERVICE, str(STORE)] == text


def test_the_keyring_that_this_desktop_prefers_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    second, first = Kept(), Kept()
    first.priority = 5.1
    install(monkeypatch, second, first)
    read_or_make_key(STORE)
    assert (len(first.entries), len(second.entries)) == (1, 0)


def test_one_that_cannot_be_used_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(Kept):
        @property
        def priority(self) -> float:  # the package's own are such
            raise RuntimeError("SecretStorage required")

    usable = Kept()
    install(monkeypatch, Missing(), usable)
    read_or_make_key(STORE)
    assert len(usable.entries) == 1
    install(monkeypatch, Missing())
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    with pytest.raises(UnavailableError) as caught:
        read_key(STORE)
    assert caught.value.message == (
        "no OS keyring answers here (the own.backend0 looked for); one that is a file is never used"
    )


def test_what_a_back_end_says_of_its_failure_is_not_passed_on(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_service: str, _username: str, password: str) -> None:
        raise ValueError(f"cannot store {password}")

    monkeypatch.setattr(kept, "set_password", fail)
    with pytest.raises(UnavailableError) as caught:
        read_or_make_key(STORE)
    assert caught.value.message == "the OS keyring failed (ValueError)"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_only_the_keyrings_of_operating_systems_are_known() -> None:
    modules = [module for _, module, _ in keyring_key.BACKENDS]
    assert modules == ["keyring.backends.SecretService", "keyring.backends.kwallet"]
