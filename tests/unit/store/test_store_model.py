"""Whatever is done to a store in whatever order, it answers as a plain dictionary would."""

import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from secret_agent.store import keys
from secret_agent_client.errors import NotFoundError
from unit.store.workshop import Workshop, put, value_of

places = st.sampled_from([("a", ""), ("a", "prod"), ("b", ""), ("b/c", "dev")])
values = st.binary(max_size=30)
numbers = st.integers(1, 6)


@dataclass
class Model:
    """One secret in one stage: version -> (value, deleted)."""

    versions: dict[int, tuple[bytes, bool]] = field(default_factory=dict)
    next: int = 1

    @property
    def live(self) -> list[int]:
        return [number for number, (_, deleted) in self.versions.items() if not deleted]


class StoreMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.cheap = keys._for_tests_cheap()
        self.cheap.__enter__()
        self.folder = tempfile.TemporaryDirectory(prefix="store-model-")
        self.shop = Workshop(Path(self.folder.name))
        self.store = self.shop.create()
        self.model: dict[tuple[str, str], Model] = {}

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()
        self.cheap.__exit__(None, None, None)

    @rule(place=places, value=values)
    def put(self, place: tuple[str, str], value: bytes) -> None:
        model = self.model.setdefault(place, Model())
        assert put(self.store, place[0], value, stage=place[1]) == model.next
        model.versions[model.next] = (value, False)
        model.next += 1

    @rule(place=places, number=st.none() | numbers, purge=st.booleans())
    def remove(self, place: tuple[str, str], number: int | None, *, purge: bool) -> None:
        model = self.model.get(place, Model())
        pool = list(model.versions) if purge else model.live
        chosen = [each for each in pool if number in (None, each)]
        if not chosen:
            with pytest.raises(NotFoundError):
                self.store.remove(*place, number, purge=purge)
            return
        assert self.store.remove(*place, number, purge=purge) == chosen
        for each in chosen:
            value, _ = model.versions.pop(each)
            if not purge:
                model.versions[each] = (value, True)
        model.versions = dict(sorted(model.versions.items()))
        if not model.versions:
            model.next = 1

    @rule(place=places, number=numbers)
    def restore(self, place: tuple[str, str], number: int) -> None:
        model = self.model.get(place, Model())
        if number not in model.versions:
            with pytest.raises(NotFoundError):
                self.store.restore(*place, number)
            return
        assert self.store.restore(*place, number).version == model.next
        model.versions[model.next] = (model.versions[number][0], False)
        model.next += 1

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.shop.unlock()

    @rule()
    def abandon_a_batch(self) -> None:
        with suppress(ZeroDivisionError), self.store.batch():
            put(self.store, "a", b"never")
            self.store.remove("a", "", purge=True)
            raise ZeroDivisionError

    @invariant()
    def answers_agree(self) -> None:
        alive = {place: model for place, model in self.model.items() if model.live}
        assert {(info.name, info.stage): info.version for info in self.store.list()} == {
            place: max(model.live) for place, model in alive.items()
        }
        assert self.store.count() == len(alive)
        for place, model in alive.items():
            for number in model.live:
                assert value_of(self.store, *place, number) == model.versions[number][0]
        for place, model in self.model.items():
            if model.versions:
                history = {each.version: each.deleted for each in self.store.history(*place)}
                assert history == {n: deleted for n, (_, deleted) in model.versions.items()}


TestStoreAnswersAsADictionaryWould = pytest.mark.slow(StoreMachine.TestCase)
TestStoreAnswersAsADictionaryWould.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None
)
