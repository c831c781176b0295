"""`secret-agent status --json` on the short path: the document, without the import of json.

Rule: the text is that of `json.dumps(…, indent=2)`, which the long way prints; a test compares.
"""

from _json import encode_basestring_ascii as quoted


def document(value: object, indent: str = "\n") -> str:
    """The JSON of what a reply can hold, bytes apart: a status has none (TypeError)."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return quoted(value)
    deeper = indent + "  "
    if isinstance(value, list):
        return _joined("[]", [document(item, deeper) for item in value], indent)
    if isinstance(value, dict):
        items = [f"{quoted(key)}: {document(item, deeper)}" for key, item in value.items()]
        return _joined("{}", items, indent)
    raise TypeError(f"{type(value).__name__} is not in a status")


def _joined(brackets: str, items: "list[str]", indent: str) -> str:
    if not items:
        return brackets
    deeper = indent + "  "
    return brackets[0] + deeper + f",{deeper}".join(items) + indent + brackets[1]
