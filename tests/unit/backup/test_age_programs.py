"""Against the real programs: `age` opens what we write, and we open what it writes."""

import os
import subprocess
from io import BytesIO
from pathlib import Path

import pytest

from secret_agent.backup.age import decrypt, encrypt
from secret_agent_client.errors import DeniedError
from support.real import need
from support.terminal import Terminal

pytestmark = pytest.mark.real

PASSPHRASE = "correct horse battery staple"
SIZES = [0, 1, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 200_000]


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("age") / "identity.txt"
    subprocess.run([need("age-keygen"), "-o", path], check=True, capture_output=True)
    return path


def recipient_of(identity: Path) -> str:
    made = subprocess.run(
        [need("age-keygen"), "-y", identity], check=True, capture_output=True, text=True
    )
    return made.stdout.strip()


def ours(content: bytes, **to: object) -> bytes:
    out = BytesIO()
    writer = encrypt(out, **to)  # type: ignore[arg-type]  # each test gives one of two keywords
    writer.write(content)
    writer.finish()
    return out.getvalue()


@pytest.mark.parametrize("size", SIZES)
def test_age_opens_what_we_write_for_a_recipient(identity: Path, size: int) -> None:
    content = os.urandom(size)
    file = ours(content, recipients=[recipient_of(identity)])
    opened = subprocess.run(
        [need("age"), "--decrypt", "-i", identity], input=file, check=True, capture_output=True
    )
    assert opened.stdout == content


@pytest.mark.parametrize("size", SIZES)
def test_we_open_what_age_writes_for_a_recipient(identity: Path, size: int) -> None:
    content = os.urandom(size)
    file = subprocess.run(
        [need("age"), "-r", recipient_of(identity)],
        input=content,
        check=True,
        capture_output=True,
    ).stdout
    assert b"".join(decrypt(BytesIO(file), identity=identity.read_bytes())) == content


def test_each_of_several_recipients_opens_the_file(identity: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    subprocess.run([need("age-keygen"), "-o", other], check=True, capture_output=True)
    file = ours(b"for both", recipients=[recipient_of(identity), recipient_of(other)])
    for each in (identity, other):
        assert b"".join(decrypt(BytesIO(file), identity=each.read_bytes())) == b"for both"
        opened = subprocess.run(
            [need("age"), "-d", "-i", each], input=file, check=True, capture_output=True
        )
        assert opened.stdout == b"for both"


def test_another_identity_is_denied(identity: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    subprocess.run([need("age-keygen"), "-o", other], check=True, capture_output=True)
    file = ours(b"not for you", recipients=[recipient_of(identity)])
    with pytest.raises(DeniedError, match="the identity does not open the backup"):
        decrypt(BytesIO(file), identity=other.read_bytes())


@pytest.mark.slow
def test_age_opens_what_we_write_under_a_passphrase(tmp_path: Path) -> None:
    file, opened = tmp_path / "ours.age", tmp_path / "opened"
    file.write_bytes(ours(b"by passphrase", passphrase=PASSPHRASE.encode()))
    argv = [need("age"), "--decrypt", "-o", str(opened), str(file)]
    with Terminal(argv, env={"PATH": os.environ["PATH"]}) as terminal:
        terminal.expect("Enter passphrase")
        terminal.send(PASSPHRASE + "\r")
        assert terminal.wait() == 0
    assert opened.read_bytes() == b"by passphrase"


@pytest.mark.slow
def test_we_open_what_age_writes_under_a_passphrase(tmp_path: Path) -> None:
    plain, file = tmp_path / "plain", tmp_path / "theirs.age"
    plain.write_bytes(b"by passphrase")
    argv = [need("age"), "--passphrase", "-o", str(file), str(plain)]
    with Terminal(argv, env={"PATH": os.environ["PATH"]}) as terminal:
        terminal.expect("Enter passphrase")
        terminal.send(PASSPHRASE + "\r")
        terminal.expect("Confirm passphrase")
        terminal.send(PASSPHRASE + "\r")
        assert terminal.wait() == 0
    content = b"".join(decrypt(BytesIO(file.read_bytes()), passphrase=PASSPHRASE.encode()))
    assert content == b"by passphrase"
