"""Verbs below a verb: `policy check`, `audit verify`.

Each has what every verb has: -h with an example, --no-input, --debug and --json, whether they stand
after it or before.
"""

from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter, _SubParsersAction
from typing import Any


def add_subverbs(parser: ArgumentParser) -> "_SubParsersAction[Any]":
    """The place for the verbs below this one; `args.what` says which it was."""
    parser.add_argument("--json", action="store_true", help="as JSON")
    return parser.add_subparsers(dest="what", metavar="WHAT", required=True)


def add_subverb(
    verbs: "_SubParsersAction[Any]", name: str, *, help_: str, example: str
) -> ArgumentParser:
    """One verb below."""
    parser: ArgumentParser = verbs.add_parser(
        name,
        help=help_,
        description=help_[:1].upper() + help_[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    # SUPPRESS: what stood in front of this verb is not put back to its default here.
    for option, text in (
        ("--no-input", "never ask; fail at once instead"),
        ("--debug", "show a traceback when it goes wrong"),
        ("--json", "as JSON"),
    ):
        parser.add_argument(option, action="store_true", default=SUPPRESS, help=text)
    return parser
