"""Where the command begins: the short path if it can, the whole command line otherwise."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def run() -> "NoReturn":
    """Run the command line of this process and end it."""
    from secret_agent_client.cli.main import main

    sys.exit(main(sys.argv[1:]))
