"""The key tree: published vectors, bounds that hold before anything is computed, no key left."""

import resource
from pathlib import Path

import cryptography_vectors
import pytest

from secret_agent.store import keys
from secret_agent.store.keys import BOUNDS, Cost, Keys, check_cost, random_key, stretch
from secret_agent_client.errors import InvalidError

VECTORS = Path(cryptography_vectors.__path__[0]) / "KDF" / "argon2id.txt"
STORE_ID = bytes(range(16))


def argon2id_vectors() -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for line in VECTORS.read_text().splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if equals and not line.startswith("#"):
            if name == "COUNT":
                found.append({})
            found[-1][name] = value
    return found


@pytest.mark.parametrize("vector", argon2id_vectors(), ids=lambda vector: f"count{vector['COUNT']}")
def test_argon2id_gives_what_the_published_vectors_say(vector: dict[str, str]) -> None:
    cost = Cost(int(vector["memcost"]), int(vector["iter"]), int(vector["lanes"]))
    given = {name: bytes.fromhex(vector[name]) for name in ("secret", "ad") if name in vector}
    out = keys._argon2id(
        bytes.fromhex(vector["pass"]),
        bytes.fromhex(vector["salt"]),
        cost,
        size=int(vector["length"]),
        secret=given.get("secret"),
        ad=given.get("ad"),
    )
    assert out.hex() == vector["output"]


def test_the_vector_of_rfc_9106_is_among_them() -> None:
    outputs = {vector["output"] for vector in argon2id_vectors()}
    assert "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659" in outputs


@pytest.mark.usefixtures("real_cost")
def test_a_new_slot_costs_what_rfc_9106_recommends() -> None:
    assert BOUNDS.new == Cost(64 * 1024, 3, 4)
    assert BOUNDS.floor == Cost(64 * 1024, 3, 1)


@pytest.mark.usefixtures("real_cost")
@pytest.mark.parametrize(
    ("cost", "named"),
    [
        (Cost(8, 3, 4), "memory_kib is 8, which is not from 65536"),
        (Cost(64 * 1024 - 1, 3, 4), "memory_kib"),
        (Cost(256 * 1024 + 1, 3, 4), "memory_kib"),
        (Cost(1 << 40, 3, 4), "memory_kib"),
        (Cost(-1, 3, 4), "memory_kib"),
        (Cost(64 * 1024, 1, 4), "passes is 1, which is not from 3 to 8"),
        (Cost(64 * 1024, 9, 4), "passes"),
        (Cost(64 * 1024, 3, 0), "lanes is 0, which is not from 1 to 8"),
        (Cost(64 * 1024, 3, 9), "lanes"),
    ],
)
def test_a_cost_out_of_bounds_is_refused_before_it_is_paid(cost: Cost, named: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(50):
        with pytest.raises(InvalidError, match=f"its Argon2id {named}"):
            stretch(b"passphrase", bytes(16), cost)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 0.5
    assert after.ru_maxrss - before.ru_maxrss < 16 * 1024


@pytest.mark.usefixtures("real_cost")
def test_costs_within_bounds_are_accepted() -> None:
    for cost in (BOUNDS.new, BOUNDS.floor, BOUNDS.ceiling):
        check_cost(cost)


@pytest.mark.parametrize("size", [0, 4097])
def test_a_passphrase_has_a_size(size: int) -> None:
    with pytest.raises(InvalidError, match=f"the passphrase has {size} bytes"):
        stretch(bytes(size), bytes(16), BOUNDS.new)


def test_cheap_stretching_ends_with_its_block() -> None:
    inside = BOUNDS.new
    with keys._for_tests_cheap():
        assert BOUNDS.new == inside == Cost(8, 1, 1)


def test_a_passphrase_may_be_any_buffer_and_is_left_alone() -> None:
    buffer = bytearray(b"words")
    assert stretch(buffer, bytes(16), BOUNDS.new) == stretch(b"words", bytes(16), BOUNDS.new)
    assert buffer == b"words"


@pytest.mark.parametrize("size", [0, -1, 8161])
def test_hkdf_gives_no_other_size(size: int) -> None:
    with pytest.raises(InvalidError, match="it gives 1 to 8160"):
        keys.hkdf(b"secret", salt=b"", info=b"", size=size)


def test_two_random_keys_differ() -> None:
    assert random_key() != random_key()
    assert len(random_key()) == 32


def test_tags_tell_names_and_stages_apart() -> None:
    tree = Keys(bytearray(32), STORE_ID)
    tags = {
        tree.name_tag("a"),
        tree.name_tag("b"),
        tree.stage_tag("a", ""),
        tree.stage_tag("a", "prod"),
        tree.stage_tag("b", "prod"),
        tree.stage_tag("b", ""),
        Keys(bytearray(32), bytes(16)).name_tag("a"),
    }
    assert len(tags) == 7
    assert {len(tag) for tag in tags} == {16}


def test_forgetting_overwrites_every_key() -> None:
    data_key = random_key()
    tree = Keys(data_key, STORE_ID)
    tree.forget()
    assert data_key == tree.digest == tree.witness == tree._names == bytes(32)
    for sealer in (tree.meta, tree.body, tree.tally):
        with pytest.raises(AssertionError):
            sealer.seal(b"", b"")
