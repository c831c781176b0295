"""The documents say what the code does: every verb, field, kind, most, flag, code, limit."""

import re
from pathlib import Path

import pytest

from secret_agent_client import errors, wire
from secret_agent_client.codec import MAX_DEPTH, MAX_VALUES
from secret_agent_client.messages import MAX_FIELDS, MAX_ITEM, MAX_VALUE, VERBS, Verb, check_request
from secret_agent_client.wire import Decoder, Message, encode
from support.tree import ROOT, tracked

PROTOCOL = (ROOT / "client" / "PROTOCOL.md").read_text()
FIELD_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (\d+) \| (.+) \|$", re.MULTILINE)


def _sections() -> dict[str, str]:
    """Verb -> the text of its section."""
    parts = re.split(r"^### (\S+)$", PROTOCOL, flags=re.MULTILINE)[1:]
    return {
        name: text.split("\n## ")[0] for name, text in zip(parts[::2], parts[1::2], strict=True)
    }


def _flags(verb: Verb) -> list[str]:
    held = {
        "scoped": verb.scoped,
        "locked": verb.locked,
        "active": verb.active,
        "slow": verb.slow,
        "descriptor": verb.descriptors == 1,
    }
    return [name for name, holds in held.items() if holds] or ["none"]


def test_every_verb_has_its_section_and_every_section_its_verb() -> None:
    assert list(_sections()) == list(VERBS)


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_a_section_tells_the_flags_of_its_verb(verb: Verb) -> None:
    told = re.search(r"^Flags: (.+)\.$", _sections()[verb.name], re.MULTILINE)
    assert told is not None
    assert told[1].split(", ") == _flags(verb)


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_a_section_tells_each_field_with_its_kind_and_most(verb: Verb) -> None:
    told = [
        (name, kind, int(most), meaning.startswith("Required. "))
        for name, kind, most, meaning in FIELD_ROW.findall(_sections()[verb.name])
    ]
    assert told == [(n, f.kind, f.most, f.required) for n, f in verb.fields.items()]


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_a_section_tells_the_reply(verb: Verb) -> None:
    section = _sections()[verb.name]
    assert ("| reply | |" in section) != ("The reply is empty." in section)


def test_every_error_code_is_told() -> None:
    section = PROTOCOL.partition("\n## 7 Errors")[2].partition("\n## 8")[0]
    told = re.findall(r"^\| `([a-z-]+)` \|", section.partition("| code | when |")[2], re.MULTILINE)
    assert told == list(errors.BY_CODE)


def test_the_limits_of_the_document_are_those_of_the_code() -> None:
    from secret_agent.server import connection, limits

    rows = dict(
        re.findall(r"^\| ([^|`]+) \| (\d+) \|$", PROTOCOL.partition("\n## 8")[2], re.MULTILINE)
    )
    assert {what: int(most) for what, most in rows.items()} == {
        "bytes of a frame, after its length": wire.MAX_FRAME,
        "bytes of a message": wire.MAX_MESSAGE,
        "bytes of a reply": wire.MAX_REPLY,
        "values in a request": MAX_VALUES,
        "levels of arrays and maps": MAX_DEPTH,
        "seconds from connecting to hello": limits.HELLO_S,
        "seconds from the first byte of a message to its last": limits.FRAME_S,
        "seconds that a reply waits to be read": limits.WRITE_S,
        "slow requests under way on one connection": limits.SLOW_AT_ONCE,
        "connections of one process": limits.PER_PROCESS,
        "connections of one uid": limits.PER_UID,
        "events that a connection may be behind": limits.EVENTS_QUEUED,
        "descriptors with one request": connection.MAX_DESCRIPTORS,
    }
    for told in (wire.MAX_FRAME, wire.MAX_MESSAGE, MAX_VALUES, MAX_FIELDS, MAX_VALUE, MAX_ITEM):
        assert str(told) in PROTOCOL.partition("\n## 4")[0]


def _example() -> list[Message]:
    text = "".join(re.findall(r"^```hex\n(.*?)^```$", PROTOCOL, re.MULTILINE | re.DOTALL))
    columns = "".join(line[:48] for line in re.sub(r'"[^"\n]*"', "", text).splitlines())
    data = bytes.fromhex(re.sub(r"\d+ bytes|a map of \d", "", columns))
    decoder, messages = Decoder(), []
    decoder.feed(data)
    while (message := decoder.next()) is not None:
        messages.append(message)
    assert b"".join(map(encode, messages)) == data
    return messages


def test_the_worked_example_is_what_it_says() -> None:
    hello, get, reply = _example()
    assert check_request(hello) == (1, VERBS["hello"], {"version": 1})
    assert check_request(get) == (2, VERBS["get"], {"name": "payments/db"})
    assert reply["id"] == 2
    error = reply["error"]
    assert isinstance(error, dict)
    assert type(errors.from_wire(error)) is errors.LockedError


def _documents() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


def _anchors(path: Path) -> set[str]:
    """The anchors that a renderer makes of a document's headings."""
    seen: dict[str, int] = {}
    anchors = set()
    for title in re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        anchors.add(slug if count == 0 else f"{slug}-{count}")
    return anchors


@pytest.mark.parametrize("path", _documents(), ids=lambda path: path.name)
def test_every_link_inside_the_repository_leads_somewhere(path: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in _anchors(file)):
            broken.append(target)
    assert broken == []
