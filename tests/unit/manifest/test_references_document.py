"""client/REFERENCES.md is true: every example in it does what it says it does."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from secret_agent_client.dotenv import parse_dotenv
from secret_agent_client.errors import InvalidError
from secret_agent_client.manifest import ManifestFile, parse_manifest
from secret_agent_client.references import glob_matches, parse_reference
from secret_agent_client.template import fill, parse_template
from secret_agent_client.value import SecretValue

TEXT = (Path(__file__).parents[3] / "client" / "REFERENCES.md").read_text("utf-8")


def _rows(header: str) -> Iterator[list[str]]:
    """The cells of the table with that header row, without their backquotes where alone."""
    for line in TEXT.split(header + "\n", 1)[1].split("\n")[1:]:
        if not line.startswith("|"):
            return
        cells = line.strip().strip("|").replace("\\|", "\0").split("|")
        yield [cell.strip().replace("\0", "|") for cell in cells]


def _bare(cell: str) -> str:
    return cell.strip("`")


REFERENCES = list(_rows("| text | means |"))
GLOBS = list(_rows("| glob | matches | does not match |"))
LINES = list(_rows("| line | means |"))
FORMS = list(_rows("| form | becomes |"))
BLOCKS = re.findall(r"```(toml|text)\n# expect: ([^\n]*)\n(.*?)```", TEXT, re.DOTALL)


def test_the_document_still_has_its_examples() -> None:
    counts = [len(each) for each in (REFERENCES, GLOBS, LINES, FORMS, BLOCKS)]
    assert counts == [14, 5, 9, 6, 7]


@pytest.mark.parametrize(("text", "means"), REFERENCES)
def test_each_reference_means_what_is_said(text: str, means: str) -> None:
    if means.startswith("refused: "):
        with pytest.raises(InvalidError) as caught:
            parse_reference(_bare(text))
        assert means.removeprefix("refused: ") in caught.value.message
        return
    found = parse_reference(_bare(text))
    shown = {key: getattr(found, key) for key in ("name", "field", "version", "stage")}
    said = dict(re.findall(r"(name|field|version|stage) `([^`]*)`", means))
    assert {key: str(value) for key, value in shown.items() if value is not None} == said
    assert parse_reference(str(found)) == found


@pytest.mark.parametrize(("glob", "matches", "others"), GLOBS)
def test_each_glob_matches_what_is_said(glob: str, matches: str, others: str) -> None:
    assert all(glob_matches(_bare(glob), name) for name in re.findall("`([^`]+)`", matches))
    assert not any(glob_matches(_bare(glob), name) for name in re.findall("`([^`]+)`", others))


@pytest.mark.parametrize(("line", "means"), LINES)
def test_each_line_of_an_env_file_means_what_is_said(line: str, means: str) -> None:
    found = parse_dotenv(_bare(line).encode())
    if means.startswith("refused: "):
        assert found.left == ((1, means.removeprefix("refused: ")),)
    else:
        (item,) = found.assignments
        assert item.value.reveal().decode() == ("" if means == "nothing" else _bare(means))


@pytest.mark.parametrize(("form", "becomes"), FORMS)
def test_each_form_of_a_template_is_one(form: str, becomes: str) -> None:
    template = parse_template(_bare(form).encode())
    assert [str(each) for each in template.references] == ["secret://payments/db#password"]


@pytest.mark.parametrize(("kind", "expect", "body"), BLOCKS)
def test_each_block_gives_what_it_expects(kind: str, expect: str, body: str) -> None:
    if kind == "text":
        template = parse_template(body.encode())
        values = {reference: SecretValue(b"VALUE") for reference in template.references}
        assert fill(template, values).decode() == expect + "\n"
        return
    if expect == "ok":
        assert parse_manifest(ManifestFile("/x", body.encode())).declared_names()
        return
    with pytest.raises(InvalidError) as caught:
        parse_manifest(ManifestFile("/x", f"version = 1\n{body}".encode()))
    assert expect in caught.value.message
