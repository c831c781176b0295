"""Every path that tomllib finds in a text has a place, and the place is where it stands."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent.policy.locate import Path, Place, Places


def paths_of(value: Any, path: Path = ()) -> set[Path]:
    """The paths of all that a parsed text holds."""
    found = {path} if path else set()
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= paths_of(inner, (*path, key))
    if isinstance(value, list):
        for number, inner in enumerate(value):
            found |= paths_of(inner, (*path, number))
    return found


TEXT = """\
# a comment with [[rule]] and x = 1 in it
version = 1 # and one behind

[[rule]]
id = "a"
about = \"\"\"
[[rule]]
id = "not a rule" \"\"\"
raw = '''
  x = [1]''''
holder = { uid = "self", exe = [ "/a", '/b#' ], "c.d" = { e = true } }
actions = [
    "read", # the first
    [ "nested", {k=1} ],
]
"quoted \\u0041" . 'key' = 1979-05-27 07:32:00

  [rule.limits]
  ttl = "15m"
[ rule . "sub" . deep ]
x = -1.5e3
[[rule.list]]
y = []
[[rule.list]]
y = {}
[[rule]]
  id = "b"
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_form_of_toml_is_walked(newline: str) -> None:
    text = TEXT.replace("\n", newline)
    assert Places(text).paths == paths_of(tomllib.loads(text))


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        ((), 1, 1),
        (("none",), 1, 1),
        (("version",), 2, 1),
        (("rule",), 4, 1),
        (("rule", 0), 4, 1),
        (("rule", 0, "id"), 5, 1),
        (("rule", 0, "missing"), 4, 1),
        (("rule", 0, "holder", "exe"), 11, 26),
        (("rule", 0, "holder", "exe", 1), 11, 40),
        (("rule", 0, "holder", "missing"), 11, 1),
        (("rule", 0, "holder", "c.d", "e"), 11, 59),
        (("rule", 0, "actions", 0), 13, 5),
        (("rule", 0, "actions", 1, 1, "k"), 14, 18),
        (("rule", 0, "quoted A", "key"), 16, 19),
        (("rule", 0, "limits"), 18, 3),
        (("rule", 0, "limits", "ttl"), 19, 3),
        (("rule", 0, "sub", "deep", "x"), 21, 1),
        (("rule", 0, "list", 1, "y"), 25, 1),
        (("rule", 1), 26, 1),
        (("rule", 1, "id"), 27, 3),
    ],
)
def test_a_place_is_where_it_stands(path: Path, line: int, column: int) -> None:
    assert Places(TEXT).of(path) == Place(line, column)


# -- any text ----------------------------------------------------------------------------------

_KEYS = st.sampled_from(["a", "b-1", '"q k"', "'r.k'", '"\\u00e9"', '""', "1"])
_SCALARS = st.sampled_from(
    [
        *("1", "true", "-1.5e3", "+inf", "07:32:00", "2020-01-01T00:00:00Z", '""', "''"),
        *('"x"', "'#]'", '"\\"},"', '"""a\n[b]\n"""', "'''\n''x'''"),
        *('""""quoted""""', "'''''two'''''", '"""\\""""'),
    ]
)
_BLANKS = st.sampled_from(["", " ", "\t"])
_LINES = st.sampled_from(["", " ", "\n", " # c ] \n ", "\n\n"])


@st.composite
def _values(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.sampled_from(["scalar", "scalar", "array", "table"] if depth else ["scalar"]))
    if kind == "scalar":
        return draw(_SCALARS)
    if kind == "array":
        items = draw(st.lists(_values(depth - 1), max_size=3))
        text = "".join(f"{draw(_LINES)}{item}{draw(_LINES)}," for item in items)
        return "[" + (text if draw(st.booleans()) else text[:-1]) + draw(_LINES) + "]"
    keys = draw(st.lists(_KEYS, max_size=3, unique=True))
    blank = draw(_BLANKS)
    pairs = (f"{blank}{key}{blank}={blank}{draw(_values(depth - 1))}{blank}" for key in keys)
    return "{" + ",".join(pairs) + blank + "}"


@st.composite
def _texts(draw: st.DrawFn) -> str:
    """Texts that are mostly valid TOML; the test asks tomllib."""
    lines = []
    for _ in range(draw(st.integers(0, 8))):
        key = draw(_BLANKS) + f"{draw(_BLANKS)}.{draw(_BLANKS)}".join(
            draw(st.lists(_KEYS, min_size=1, max_size=2))
        )
        form = draw(st.sampled_from(["{0} = {1}", "{0}={1}", "{0} = {1}", "[{0} ]", "[[{0}]]"]))
        lines.append(draw(_BLANKS) + form.format(key, draw(_values())) + draw(_BLANKS))
        if draw(st.booleans()):
            lines[-1] += "# comment = ['"
    return "\n".join(lines) + draw(_LINES)


@pytest.mark.slow
@given(_texts())
def test_the_paths_found_are_those_of_tomllib(text: str) -> None:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    places = Places(text)
    assert places.paths == paths_of(tables)
    lines = text.split("\n")
    for path in places.paths:
        line, column = places.of(path)
        assert lines[line - 1][column - 1 :].strip()
