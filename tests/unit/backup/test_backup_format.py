"""FORMAT.md's worked example: its file holds exactly its text, and reads as it says."""

import base64
import re
import subprocess
from io import BytesIO
from pathlib import Path

import pytest

import secret_agent.backup
from secret_agent.backup.age import decrypt
from secret_agent.backup.archive import read_backup
from secret_agent.backup.content import write_lines
from secret_agent.backup.recipients import MAX_RECIPIENTS, MAX_WORK_FACTOR, WORK_FACTOR
from support.real import need

TEXT = (Path(secret_agent.backup.__file__).parent / "FORMAT.md").read_text()
VECTOR = Path(__file__).parents[2] / "vectors" / "age" / "backup.age.b64"

FILE = base64.decodebytes(VECTOR.read_bytes())
(IDENTITY,) = re.findall(r"Identity `(AGE-SECRET-KEY-1[0-9A-Z]+)`", TEXT)
CONTENT = TEXT.partition("```json\n")[2].partition("```")[0].encode()


def test_the_vector_holds_the_text_of_the_document() -> None:
    assert b"".join(decrypt(BytesIO(FILE), identity=IDENTITY.encode())) == CONTENT


def test_the_text_is_what_we_write_for_what_it_reads_as() -> None:
    records = list(read_backup(BytesIO(FILE), identity=IDENTITY.encode(), passphrase=None))
    assert [record.fields["password"].reveal() for record in records] == [b"hunter2", b"\0\xff"]
    assert list(records[0].fields) == ["username", "password"]
    assert b"".join(write_lines("000102030405060708090a0b0c0d0e0f", records)) == CONTENT


def test_the_numbers_of_the_document_are_those_of_the_code() -> None:
    assert f"at most {MAX_RECIPIENTS} |" in TEXT
    assert f"work factor {WORK_FACTOR} (" in TEXT
    assert f"work factor at most {MAX_WORK_FACTOR} (" in TEXT


@pytest.mark.real
def test_age_reads_the_vector_too(tmp_path: Path) -> None:
    (tmp_path / "identity").write_text(IDENTITY + "\n")
    opened = subprocess.run(
        [need("age"), "--decrypt", "-i", tmp_path / "identity"],
        input=FILE,
        check=True,
        capture_output=True,
    )
    assert opened.stdout == CONTENT
