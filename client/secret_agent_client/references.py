"""Names, references and globs: parse and print.  The grammar is told in client/REFERENCES.md.

    name      = segment *( "/" segment )
    segment   = [a-z0-9] [a-z0-9._-]{0,62}
    reference = [ "secret://" ] name [ "#" field ] [ "?" query ]
    query     = version=N or stage=S or both, in any order, joined by "&"
    N         = [1-9][0-9]{0,8}
    S         = segment

The parser names the first offending character and its place; it never guesses.  It is written
without `re`, whose import alone would double the time of `secret-agent get`.
"""

from secret_agent_client.errors import InvalidError

SCHEME = "secret://"
MAX_SEGMENT = 63  # characters; a DNS label's length, so that a segment can become one
MAX_NAME = 255  # characters; a file name's length on every file system we know
MAX_FIELD = 63  # characters
MAX_VERSION = 9  # digits; a new version each second for thirty years has no more

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_REST = _FIRST | frozenset("._-")
_FIELD_REST = _REST | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_FIELD_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class Reference:
    """`secret://name#field?version=N&stage=S`, parsed.  Never changed; compared by its text.

    Attributes: name (str), field (str | None), version (int | None), stage (str | None).
    """

    __slots__ = ("field", "name", "stage", "version")

    def __init__(
        self,
        name: str,
        *,
        field: str | None = None,
        version: int | None = None,
        stage: str | None = None,
    ) -> None:
        self.name = name
        self.field = field
        self.version = version
        self.stage = stage

    def __str__(self) -> str:
        text = SCHEME + self.name
        if self.field is not None:
            text += "#" + self.field
        query = []
        if self.version is not None:
            query.append(f"version={self.version}")
        if self.stage is not None:
            query.append("stage=" + self.stage)
        return text + ("?" + "&".join(query) if query else "")

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def parse_reference(text: str) -> Reference:
    """Parse a reference, with or without its scheme.

    Raises InvalidError naming the offending character.
    """
    rest = text.removeprefix(SCHEME)
    rest, question, query = rest.partition("?")
    name, hash_, field = rest.partition("#")
    check_name(name)
    if hash_:
        check_field(field)
    version, stage = _parse_query(query) if question else (None, None)
    return Reference(name, field=field if hash_ else None, version=version, stage=stage)


def is_reference(text: str) -> bool:
    """Whether a string found in an environment or a file has the scheme of a reference."""
    return text.startswith(SCHEME)


def check_name(name: str) -> str:
    """Return the name if it fits the grammar; raise InvalidError naming the offending character."""
    if not name:
        raise InvalidError("a secret's name is empty", remedy="secret-agent ls")
    if len(name) > MAX_NAME:
        raise InvalidError(f"a secret's name has {len(name)} characters; the most is {MAX_NAME}")
    at = 0
    for segment in name.split("/"):
        _check_segment(segment, at)
        at += len(segment) + 1
    return name


def check_field(field: str) -> str:
    """Return the field's name if it fits `[A-Za-z0-9_][A-Za-z0-9._-]{0,62}`.

    Raises InvalidError otherwise.
    """
    if not field or len(field) > MAX_FIELD:
        raise InvalidError(f"a field's name has {len(field)} characters; it needs 1 to {MAX_FIELD}")
    for at, char in enumerate(field):
        if char not in (_FIELD_FIRST if at == 0 else _FIELD_REST):
            raise InvalidError(f"{_show(char)} at position {at} cannot stand in a field's name")
    return field


def check_stage(stage: str) -> str:
    """Return the stage if it is one segment of the name grammar; raise InvalidError otherwise."""
    _check_segment(stage, 0, what="stage")
    return stage


def check_glob(glob: str) -> str:
    """Return the glob if it can match something; raise InvalidError otherwise.

    `*` matches within a segment, `**` any number of segments, `?` one character; the rest is
    literal.  `**` beside other characters is refused: who writes `prod**` in a rule that denies
    means `prod/db` too, which a star within a segment would let through.
    """
    if not glob or len(glob) > MAX_NAME:
        raise InvalidError(f"a glob has {len(glob)} characters; it needs 1 to {MAX_NAME}")
    for at, char in enumerate(glob):
        if char not in _REST and char not in "*?/":
            raise InvalidError(f"{_show(char)} at position {at} cannot stand in a glob")
    at = 0
    for segment in glob.split("/"):
        if not segment:
            raise InvalidError(f"an empty segment at position {at} cannot stand in a glob")
        if "**" in segment and segment != "**":
            raise InvalidError(f"'**' beside other characters at position {at} of a glob")
        at += len(segment) + 1
    return glob


def glob_matches(glob: str, name: str) -> bool:
    """Whether a checked glob matches a checked name.

    `**` matches zero or more segments; a trailing `/*` matches one segment only.  Never worse than
    the product of the two lengths: no star is tried again once a later one has matched.
    """
    patterns, segments = glob.split("/"), name.split("/")
    reachable = {0}
    for pattern in patterns:
        if pattern == "**":
            reachable = set(range(min(reachable), len(segments) + 1)) if reachable else set()
        else:
            reachable = {
                at + 1
                for at in reachable
                if at < len(segments) and _segment_matches(pattern, segments[at])
            }
    return len(segments) in reachable


def _segment_matches(pattern: str, text: str) -> bool:
    at = want = 0  # offsets of the next character of text and of pattern
    star, tried = -1, 0  # offset of the last star, and where the text after it was tried
    while at < len(text):
        if want < len(pattern) and pattern[want] in ("?", text[at]):
            at += 1
            want += 1
        elif want < len(pattern) and pattern[want] == "*":
            star, tried = want, at
            want += 1
        elif star >= 0:
            tried += 1
            at, want = tried, star + 1
        else:
            return False
    return all(char == "*" for char in pattern[want:])


def _check_segment(segment: str, at: int, *, what: str = "name") -> None:
    if not segment:
        raise InvalidError(f"an empty segment at position {at} cannot stand in a {what}")
    if len(segment) > MAX_SEGMENT:
        raise InvalidError(
            f"a segment of a {what} has {len(segment)} characters; the most is {MAX_SEGMENT}"
        )
    for offset, char in enumerate(segment):
        if char not in (_FIRST if offset == 0 else _REST):
            place = "begin a segment of" if offset == 0 and char in _REST else "stand in"
            raise InvalidError(f"{_show(char)} at position {at + offset} cannot {place} a {what}")


def _parse_query(query: str) -> tuple[int | None, str | None]:
    version: int | None = None
    stage: str | None = None
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key == "version" and version is None:
            version = _parse_version(value)
        elif key == "stage" and stage is None:
            stage = check_stage(value)
        else:
            raise InvalidError(
                "a reference's query is not version=N or stage=S, once each",
                remedy="secret-agent get 'payments/db#password?version=3'",
            )
    return version, stage


def _parse_version(text: str) -> int:
    if not text or len(text) > MAX_VERSION:
        raise InvalidError(f"a version has {len(text)} digits; it needs 1 to {MAX_VERSION}")
    for at, char in enumerate(text):
        if char not in "0123456789":
            raise InvalidError(f"{_show(char)} at position {at} cannot stand in a version")
    if text[0] == "0":
        raise InvalidError("a version begins with 0; versions count from 1")
    return int(text)


def _show(char: str) -> str:
    """The character as a person can read it: itself if printable ASCII, else its code point."""
    return f"'{char}'" if " " <= char < "\x7f" else f"U+{ord(char):04X}"
