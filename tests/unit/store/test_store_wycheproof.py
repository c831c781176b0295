"""Wycheproof's AES-GCM and HKDF-SHA-256 vectors, unchanged, through the store's own functions.

Keys, nonces and tags of a size that the store does not use must be refused, valid or not.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from secret_agent.store.keys import hkdf
from secret_agent.store.seal import BrokenSealError, Sealed, Sealer
from secret_agent_client.errors import InvalidError

FOLDER = Path(__file__).parents[2] / "vectors" / "wycheproof"


def cases(file: str) -> list[dict[str, Any]]:
    found = json.loads((FOLDER / file).read_text())
    every = [
        case | {key: group.get(key) for key in ("keySize", "ivSize", "tagSize")}
        for group in found["testGroups"]
        for case in group["tests"]
    ]
    assert len(every) == found["numberOfTests"]
    return every


GCM = cases("aes_gcm_test.json")
OURS = [case for case in GCM if (case["keySize"], case["ivSize"]) == (256, 96)]
OTHER_NONCE = [case for case in GCM if case["keySize"] == 256 and case["ivSize"] != 96]
OTHER_KEY = [case for case in GCM if case["keySize"] != 256]
HKDF = cases("hkdf_sha256_test.json")


def raw(case: dict[str, Any], *names: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(case[name]) for name in names)


def by_id(case: dict[str, Any]) -> str:
    return f"tc{case['tcId']}"


def test_no_case_is_left_out() -> None:
    assert (len(OURS), len(OTHER_NONCE) + len(OTHER_KEY) + len(OURS)) == (66, 316)
    assert {case["tagSize"] for case in OURS} == {128}
    assert {case["result"] for case in OURS} == {"valid", "invalid"}


@pytest.mark.parametrize("case", OURS, ids=by_id)
def test_gcm_opens_what_is_valid_and_nothing_else(case: dict[str, Any]) -> None:
    key, nonce, aad, text, tag, plain = raw(case, "key", "iv", "aad", "ct", "tag", "msg")
    sealer = Sealer(key)
    if case["result"] == "invalid":
        with pytest.raises(BrokenSealError):
            sealer.open(Sealed(nonce, tag, text), aad)
        return
    assert sealer.open(Sealed(nonce, tag, text), aad) == plain
    assert sealer._seal_with(nonce, plain, aad) == Sealed(nonce, tag, text)


@pytest.mark.parametrize("case", OTHER_NONCE, ids=by_id)
def test_gcm_refuses_every_other_size_of_nonce(case: dict[str, Any]) -> None:
    key, nonce, aad, text, tag = raw(case, "key", "iv", "aad", "ct", "tag")
    with pytest.raises(BrokenSealError, match=f"a nonce of {len(nonce)} bytes"):
        Sealer(key).open(Sealed(nonce, tag, text), aad)


@pytest.mark.parametrize("case", OTHER_KEY, ids=by_id)
def test_gcm_refuses_every_other_size_of_key(case: dict[str, Any]) -> None:
    (key,) = raw(case, "key")
    with pytest.raises(InvalidError, match=f"a sealing key has {len(key)} bytes"):
        Sealer(key)


@pytest.mark.parametrize("case", HKDF, ids=by_id)
def test_hkdf_gives_what_it_must(case: dict[str, Any]) -> None:
    secret, salt, info = raw(case, "ikm", "salt", "info")
    if case["result"] == "invalid":
        with pytest.raises(InvalidError, match="HKDF-SHA-256 cannot give"):
            hkdf(secret, salt=salt, info=info, size=case["size"])
        return
    assert hkdf(secret, salt=salt, info=info, size=case["size"]).hex() == case["okm"]
