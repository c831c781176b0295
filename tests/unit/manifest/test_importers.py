"""Each layout is read whole: what is taken has a name that fits, what is not taken has a reason."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent_client.errors import InvalidError
from secret_agent_client.importers import Imported, field_name, read_layout, secret_name
from secret_agent_client.importers_pass import read_pass
from secret_agent_client.references import check_field, check_name
from support.real import need


def _taken(result: Imported) -> dict[str, dict[str, str]]:
    return {
        name: {field: value.reveal().decode() for field, value in item.fields.items()}
        for name, item in result.found.items()
    }


def _json(document: Any) -> Imported:
    return read_layout(json.dumps(document).encode(), stem="stem")


def test_each_name_of_an_env_file_becomes_a_secret_and_the_rest_is_told_of() -> None:
    result = read_layout(
        b"A_KEY=one\nB='two'\nA_KEY=three\nC=\nD=secret://x/y#z\nbroken\nE=$HOME\na_key=four\n",
        stem="",
    )
    assert _taken(result) == {
        "b": {"value": "two"},
        "a_key": {"value": "three"},
        "e": {"value": "$HOME"},
    }
    assert result.left == [
        ("line 6", "no NAME=value"),
        ("line 1 (A_KEY)", "assigned again at line 3"),
        ("line 4 (C)", "empty"),
        ("line 5 (D)", "a reference already"),
        ("line 8 (a_key)", "the same name as line 3 (A_KEY)"),
    ]
    assert {name: str(ref) for name, ref in result.references.items()} == {"D": "secret://x/y#z"}
    assert result.notes == [("line 7 (E)", "it has a $, which was taken as it stands")]
    assert result.found["b"].env == "B"


def test_a_plain_object_is_secrets_and_folders() -> None:
    result = _json(
        {
            "API_KEY": "k",
            "port": 5432,
            "on": True,
            "payments": {"db": {"username": "u", "password": "p"}, "key": "x"},
            "bytes": {"base64": "/w=="},
            "none": None,
            "list": [1],
            "": "x",
            "blank": "",
        }
    )
    values = {name: dict(item.fields) for name, item in result.found.items()}
    assert values.pop("bytes")["value"].reveal() == b"\xff"
    result.found.pop("bytes")
    assert _taken(result) == {
        "api_key": {"value": "k"},
        "port": {"value": "5432"},
        "on": {"value": "true"},
        "payments/db": {"username": "u", "password": "p"},
        "payments/key": {"value": "x"},
    }
    assert [where for where, _ in result.left] == ["none", "list", "", "blank"]


def test_what_get_prints_is_read_back_with_its_type_and_bytes() -> None:
    result = _json(
        {
            "reference": "secret://payments/db?stage=prod",
            "version": 3,
            "type": "login",
            "fields": {"password": {"base64": "AAE="}},
            "lease": None,
        }
    )
    item = result.found["payments/db"]
    assert (item.type, item.fields["password"].reveal()) == ("login", b"\0\1")


def test_an_op_item_is_read_by_the_labels_of_its_fields() -> None:
    item = {
        "id": "x",
        "title": "Acme DB (prod)",
        "vault": {"name": "Team Ops"},
        "category": "LOGIN",
        "fields": [
            {"id": "username", "label": "username", "value": "u"},
            {"id": "password", "label": "password", "value": "p"},
            {"id": "notesPlain", "label": "notesPlain"},
            {"id": "z", "label": "one time", "value": "otpauth://x"},
            {"id": "y", "label": "password", "value": "second"},
        ],
    }
    result = _json([item])
    assert _taken(result) == {
        "team-ops/acme-db--prod": {"username": "u", "password": "p", "one_time": "otpauth://x"}
    }
    assert result.found["team-ops/acme-db--prod"].type == "login"
    assert result.left == [("team-ops/acme-db--prod", "a second field password")]


@pytest.mark.parametrize("version", [1, 2])
def test_a_vault_secret_is_read_in_both_versions_and_named_by_the_file(version: int) -> None:
    data: dict[str, Any] = {"user": "u", "ttl": 5}
    if version == 2:
        data = {"data": data, "metadata": {"version": 4}}
    result = _json({"request_id": "x", "lease_id": "", "data": data})
    assert _taken(result) == {"stem": {"user": "u", "ttl": "5"}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "nothing that can be imported"),
        (b"# only\n", "nothing that can be imported"),
        (b"{}", "nothing that can be imported"),
        (b'{"a": canary}', "line 1, column 7"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b'{"a": "canary", "a": 1}', "a key stands twice"),
        (b"[1]", "must hold an object"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, ""),
    ],
)
def test_what_is_no_layout_is_refused_without_being_shown(data: bytes, message: str) -> None:
    if not message:
        assert "nested more than" in read_layout(data, stem="").left[0][1]
        return
    with pytest.raises(InvalidError, match=message) as caught:
        read_layout(data, stem="")
    assert "canary" not in str(caught.value)


def test_what_is_too_large_for_a_secret_is_left() -> None:
    result = _json({"big": "x" * (512 * 1024 + 1), "small": "x"})
    assert list(result.found) == ["small"]
    assert result.left == [("big", "too large")]


def test_a_prefix_goes_before_every_name_and_must_be_one() -> None:
    result = read_layout(b"A=b", stem="").prefixed("payments/dev/")
    assert list(result.found) == ["payments/dev/a"]
    with pytest.raises(InvalidError, match="cannot"):
        read_layout(b"A=b", stem="").prefixed("../x")


@given(st.text(max_size=80))
def test_a_made_name_fits_the_grammar_or_is_empty(text: str) -> None:
    name, field = secret_name(text), field_name(text)
    assert not name or check_name(name)
    assert not field or check_field(field)


@pytest.mark.real
@pytest.mark.slow
def test_a_real_pass_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("gpg")
    home = tmp_path / "gpg"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    key = ["--batch", "--passphrase", "", "--quick-gen-key", "t@example.org", "rsa2048", "encr"]
    subprocess.run(["gpg", *key], check=True, capture_output=True)
    store = tmp_path / "store"
    (store / "Web").mkdir(parents=True)

    def put(name: str, content: bytes) -> None:
        command = ["gpg", "--batch", "--trust-model", "always", "-r", "t@example.org", "-e", "-o"]
        target = [os.fspath(store / name)]
        subprocess.run([*command, *target], input=content, check=True, capture_output=True)

    try:
        put("Web/Acme.gpg", b"hunter22\nuser: me\nurl: https://acme.test/\nhttps://x\nfree text\n")
        put("plain.gpg", b"s3cret")
        (store / "broken.gpg").write_bytes(b"no")
        result = read_pass(str(store))
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=False, capture_output=True)
    assert _taken(result) == {
        "web/acme": {
            "password": "hunter22",
            "user": "me",
            "url": "https://acme.test/",
            "notes": "https://x\nfree text",
        },
        "plain": {"password": "s3cret"},
    }
    assert result.left == [("broken", "gpg does not open it")]


def test_a_folder_without_gpg_files_is_no_pass_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="holds 0 "):
        read_pass(str(tmp_path))
