"""Where in a TOML text a key stands, for an error to point at: `tomllib` does not say.

A good guess and no parser: a text that has already been parsed is searched line by line for the
longest part of the key's path.  A wrong guess costs a wrong line in a message and nothing else.
"""


def place_of(text: str, path: tuple[str, ...]) -> tuple[int, int]:
    """Line and column, both from 1, of the key; of the nearest table around it otherwise."""
    best, place = 0, (1, 1)
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        code = line.lstrip(" \t")
        indent = len(line) - len(code)
        if code.startswith("["):
            table = keys = _split(code.partition("]")[0].lstrip("["))
            inner = ""
        else:
            key, equals, inner = code.partition("=")
            if not equals:
                continue
            keys = (*table, *_split(key))
        depth = _common(keys, path)
        if depth <= best:
            continue
        best, place = depth, (number, indent + 1)
        if depth == len(keys) < len(path) and path[depth] in inner:
            best, place = depth + 1, (number, line.index(path[depth], indent + len(key) + 1) + 1)
    return place


def _split(key: str) -> tuple[str, ...]:
    return tuple(part.strip(" \t\"'") for part in key.split("."))


def _common(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    """How many parts both begin with."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count
