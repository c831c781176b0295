"""The age test kit of C2SP, unchanged: our reader accepts and refuses exactly what it must.

What we do not read (armor, post-quantum identities) must be refused by name, whatever it expects.
"""

import hashlib
import subprocess
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

from secret_agent.backup.age import decrypt
from secret_agent_client.errors import DeniedError, InvalidError, SecretAgentError

KIT = Path(__file__).parents[2] / "vectors" / "age" / "testkit"


@dataclass
class Vector:
    expect: str
    armored: bool
    payload: str | None
    identities: list[str]
    passphrases: list[str]
    file: bytes

    @property
    def is_readable(self) -> bool:
        return not self.armored and not any("-PQ-" in each for each in self.identities)

    @property
    def keys(self) -> dict[str, bytes | None]:
        if self.passphrases:
            return {"passphrase": self.passphrases[0].encode(), "identity": None}
        return {"identity": "\n".join(self.identities).encode(), "passphrase": None}


def read_vector(path: Path) -> Vector:
    head, _, file = path.read_bytes().partition(b"\n\n")
    pairs = [line.split(": ", 1) for line in head.decode().split("\n")]
    known = dict(pairs)
    return Vector(
        expect=known["expect"],
        armored=known.get("armored") == "yes",
        payload=known.get("payload"),
        identities=[value for key, value in pairs if key == "identity"],
        passphrases=[value for key, value in pairs if key == "passphrase"],
        file=zlib.decompress(file) if known.get("compressed") == "zlib" else file,
    )


VECTORS = {path.name: read_vector(path) for path in sorted(KIT.iterdir())}
READABLE = {name: vector for name, vector in VECTORS.items() if vector.is_readable}


def outcome_of(error: SecretAgentError) -> str:
    if isinstance(error, DeniedError):
        return "no match"
    if "MAC does not fit" in error.message:
        return "HMAC failure"
    if error.message.startswith("the backup's content"):
        return "payload failure"
    return "header failure"


def read(vector: Vector) -> tuple[str, bytes]:
    released = b""
    try:
        for chunk in decrypt(BytesIO(vector.file), **vector.keys):
            released += chunk
    except (InvalidError, DeniedError) as error:
        return outcome_of(error), released
    return "success", released


def test_the_kit_is_whole() -> None:
    assert len(VECTORS) == 143
    assert len(READABLE) == 92


@pytest.mark.parametrize("name", READABLE)
def test_a_file_of_the_kit_ends_as_it_expects(name: str) -> None:
    vector = READABLE[name]
    outcome, released = read(vector)
    assert outcome == vector.expect
    if vector.payload is not None:
        assert hashlib.sha256(released).hexdigest() == vector.payload


@pytest.mark.parametrize("name", sorted(VECTORS.keys() - READABLE.keys()))
def test_what_we_do_not_read_is_refused_before_anything_is_released(name: str) -> None:
    outcome, released = read(VECTORS[name])
    assert (outcome, released) == ("header failure", b"")


def test_armor_is_named_and_the_command_that_takes_it_off_works(tmp_path: Path) -> None:
    vector = VECTORS["armor_x25519"]
    with pytest.raises(InvalidError, match="armored") as caught:
        decrypt(BytesIO(vector.file), **vector.keys)
    (tmp_path / "backup.age").write_bytes(vector.file)
    assert caught.value.remedy is not None
    subprocess.run(["sh", "-c", caught.value.remedy], cwd=tmp_path, check=True)
    binary = (tmp_path / "binary.age").read_bytes()
    content = b"".join(decrypt(BytesIO(binary), **vector.keys))
    assert hashlib.sha256(content).hexdigest() == vector.payload
