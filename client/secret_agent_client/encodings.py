r"""The forms in which a value turns up in what a program prints; masking.py looks for each of them.

The table is that of the actions/runner masker (ValueEncoders.cs: base64 at three offsets, command
line, expression, JSON, URI, XML, trimmed quotes, PowerShell's `&`), and what other programs were
seen to print: hex, shells' quoting, `repr`, CSV, the line ends of a terminal.

    whole     as it is, trimmed, with LF and with CRLF line ends
    line      each line of a value of several, trimmed: a PEM printed line by line (runner #161)
    encoded   each of those in every encoding below

Rules that hold here: pure functions of the value; a form never depends on what stands around it;
what is shorter than MIN_CHARACTERS is no form (runner #326: masking `{` destroys a log).
What no table can hold is not promised: reversed, coloured, encrypted, encoded twice (SECURITY.md).
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from json.encoder import encode_basestring, encode_basestring_ascii

MIN_CHARACTERS = 6  # characters; a shorter value is found by chance in any output
LARGE = 64 * 1024  # bytes; of a larger value only base64 and hex are made, to bound memory
MANY_LINES = 400  # lines; of a value with more, each line is looked for as it stands alone

Escape = Callable[[str], str]

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_URL_SAFE = (  # characters left alone by: quote(safe=""), quote(), encodeURIComponent, encodeURI
    _UNRESERVED,
    _UNRESERVED | frozenset(b"/"),
    _UNRESERVED | frozenset(b"!*'()"),
    _UNRESERVED | frozenset(b"!*'();/?:@&=+$,#"),
)
_WRAP = (76, 64)  # columns at which `base64` and `openssl base64` break their output
_PERCENT = re.compile("%[0-9A-F]{2}")
_UNICODE_ESCAPE = re.compile(r"\\u[0-9a-f]{4}")
_SHELL_SPECIAL = re.compile(r"([^A-Za-z0-9_@%+=:,./\n-])", re.ASCII)


def is_maskable(value: bytes) -> bool:
    """Whether it is long enough to be looked for: MIN_CHARACTERS, not counting space around it."""
    return len(value.strip().decode("utf-8", "replace")) >= MIN_CHARACTERS


def lines_of(value: bytes) -> list[bytes]:
    """The trimmed lines of a value of several, empty ones left out; [] for a value of one."""
    lines = [line.strip() for line in re.split(rb"[\r\n]+", value)]
    lines = [line for line in lines if line]
    return lines if len(lines) > 1 else []


def has_short_lines(value: bytes) -> bool:
    """Whether a line that holds a letter or a digit is too short to be looked for."""
    return any(not is_maskable(line) and re.search(rb"\w", line) for line in lines_of(value))


def forms_of(value: bytes) -> set[bytes]:
    """Every form of the value and of its lines; empty where nothing is long enough."""
    forms: set[bytes] = set()
    for whole in _wholes(value):
        forms |= encoded(whole)
    lines = [line for line in lines_of(value) if is_maskable(line)]
    for line in lines:
        forms |= encoded(line) if len(lines) <= MANY_LINES else {line}
    return forms


def encoded(value: bytes) -> set[bytes]:
    """One text in every encoding, itself included; `set()` where it is not maskable."""
    if not is_maskable(value):
        return set()
    forms = {value, value.hex().encode(), value.hex().upper().encode()}
    forms |= _base64(value)
    if len(value) <= LARGE:
        forms |= _urls(value)
        # surrogateescape: a byte that is no UTF-8 goes through every table as it is.
        text = value.decode("utf-8", "surrogateescape")
        for form in _texts(text):
            forms.add(form.encode("utf-8", "surrogateescape"))
        forms |= {repr(value)[2:-1].encode(), *_sections(value)}
    return {form for form in forms if len(form) >= MIN_CHARACTERS}


def _wholes(value: bytes) -> set[bytes]:
    unix = value.replace(b"\r\n", b"\n")
    every = {value, unix, unix.replace(b"\n", b"\r\n")}
    return every | {whole.strip() for whole in every}


def _base64(value: bytes) -> set[bytes]:
    forms: set[bytes] = set()
    for offset in range(3):
        forms |= _base64_at(value, offset)
    for ended in (value, value + b"\n"):  # `echo` adds the newline
        forms |= _wrapped(b64encode(ended))
    return forms | {form.translate(bytes.maketrans(b"+/", b"-_")) for form in forms}


def _base64_at(value: bytes, offset: int) -> set[bytes]:
    """The value's base64 behind `offset` other bytes: what no neighbour has a share in, and, where
    the value is the last there, with its end, padded and not.
    """
    padded = b64encode(bytes(offset) + value)[(0, 2, 3)[offset] :]
    bare = padded.rstrip(b"=")
    whole_groups = (offset + len(value)) % 3 == 0
    return {padded, bare, bare if whole_groups else bare[:-1]}


def _wrapped(text: bytes) -> set[bytes]:
    """Base64 as commands break it: every line, and all of them, with LF and CRLF."""
    forms: set[bytes] = set()
    for width in _WRAP:
        if len(text) > width:
            lines = [text[at : at + width] for at in range(0, len(text), width)]
            forms |= {b"\n".join(lines), b"\r\n".join(lines), *lines}
    return {form for form in forms if len(form) >= MIN_CHARACTERS}


def _urls(value: bytes) -> set[bytes]:
    forms: set[str] = set()
    for safe in _URL_SAFE:
        table = {byte: f"%{byte:02X}" for byte in range(256) if byte not in safe}
        quoted = value.decode("latin-1").translate(table)
        forms |= {quoted, quoted.replace("%20", "+")}  # quote and quote_plus
    forms |= {_PERCENT.sub(lambda found: found[0].lower(), form) for form in forms}
    return {form.encode() for form in forms}


def _texts(text: str) -> Iterator[str]:
    yield from _jsons(text)
    yield from _markups(text)
    yield from _shells(text)
    yield text.replace('"', '\\"')  # a Windows command line
    yield text.replace('"', '""')  # CSV
    yield text.replace("'", "''")  # SQL, YAML, a workflow expression
    yield repr(text)[1:-1]


def _jsons(text: str) -> Iterator[str]:
    r"""JSON as Python, PHP (`\/`), Go (`<` as \u003c) and .NET (`"`, `'`, `+` too) write it."""
    for escape in (encode_basestring_ascii, encode_basestring):
        plain = escape(text)[1:-1]
        go = _replaced(plain, "<>&", "\\u{:04x}")
        dotnet = _replaced(plain.replace('\\"', "\\u0022"), "<>&'+`", "\\u{:04x}")
        for form in (plain, plain.replace("/", "\\/"), go, dotnet):
            yield form
            yield _UNICODE_ESCAPE.sub(lambda found: "\\u" + found[0][2:].upper(), form)


def _markups(text: str) -> Iterator[str]:
    """XML and HTML: what the common escapers make of quotes, of `>` and of line ends."""
    for quote, apostrophe in (
        ('"', "'"),
        ("&quot;", "'"),
        ("&quot;", "&#x27;"),
        ("&quot;", "&#39;"),
        ("&quot;", "&apos;"),
        ("&#34;", "&#39;"),
    ):
        for greater in ("&gt;", ">"):
            table = {"&": "&amp;", "<": "&lt;", ">": greater, '"': quote, "'": apostrophe}
            form = text.translate({ord(char): entity for char, entity in table.items()})
            yield form
            yield form.replace("\r", "&#13;").replace("\n", "&#10;").replace("\t", "&#9;")
            yield _numeric(form)


def _numeric(text: str) -> str:
    """Every character beyond ASCII as `&#233;`; a byte that is no UTF-8 stays."""
    return "".join(
        char if char < "\x80" or "\udc80" <= char <= "\udcff" else f"&#{ord(char)};"
        for char in text
    )


def _shells(text: str) -> Iterator[str]:
    yield text.replace("'", "'\\''")  # sh -x, ours
    yield text.replace("'", "'\"'\"'")  # shlex.quote
    yield text.replace("\\", "\\\\").replace("'", "\\'")  # fish
    yield re.sub(r'([\\"$`])', r"\\\1", text)  # inside double quotes
    yield _SHELL_SPECIAL.sub(r"\\\1", text)  # printf %q
    ansi = text.replace("\\", "\\\\").replace("'", "\\'")
    yield ansi.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")  # $'…'


def _sections(value: bytes) -> Iterator[bytes]:
    """Parts that are printed alone: inside its quotes; before and after PowerShell's `&`."""
    if value[:1] == value[-1:] == b'"':
        yield from _if_maskable([value[1:-1]])
    before, ampersand_plus, after = value.partition(b"&+")
    if ampersand_plus:
        yield from _if_maskable([before + ampersand_plus, after[1:]])
    elif b"&" in value:
        before, _, after = value.rpartition(b"&")
        yield from _if_maskable([before + b"&", after])


def _if_maskable(parts: Iterable[bytes]) -> Iterator[bytes]:
    return (part for part in parts if is_maskable(part))


def _replaced(text: str, characters: str, form: str) -> str:
    return text.translate({ord(char): form.format(ord(char)) for char in characters})
