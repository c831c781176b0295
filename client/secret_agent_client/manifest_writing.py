"""Write a first `secrets.toml` from names and references, and trust it: we made it ourselves.

It never touches one that is there; merging is the user's to do, with an editor.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from secret_agent_client.errors import InvalidError
from secret_agent_client.manifest import FILE_NAME, parse_manifest, read_manifest
from secret_agent_client.private_file import write_private
from secret_agent_client.references import Reference
from secret_agent_client.trust import Trust


def check_absent(folder: str) -> None:
    """Raise InvalidError where the folder has a manifest already."""
    if os.path.lexists(Path(folder) / FILE_NAME):
        raise InvalidError(
            f"{FILE_NAME} is here already and stays as it is; add the names to it by hand",
            remedy="secret-agent env",
        )


def write_manifest(folder: str, names: Mapping[str, Reference], trust: Trust) -> str:
    """Write and trust the manifest; its real path.  The names have been checked."""
    check_absent(folder)
    lines = [f'{name} = "{reference}"' for name, reference in names.items()]
    text = "\n".join(("version = 1", "", "[env]", *lines, ""))
    path = Path(folder) / FILE_NAME
    write_private(str(path), text.encode(), mode=0o644)  # it is committed, and holds no value
    file = read_manifest(str(path))
    parse_manifest(file)  # what we write we can read
    trust.add(file.path, file.data)
    return file.path
