"""A process that connects to a socket and then does what it is told: a peer to be identified.

    python -I -S puppet.py SOCKET [WORD …]      connect
    python -I -S puppet.py fd:N [WORD …]        go on with a connection inherited as descriptor N

It sends its words as one line; then every line that it receives is run as Python, and answered with
a line: the repr of `result`, or of the exception.  The end of the connection is its end.  It
imports little, for a hundred of them are started in a test run.
"""

import os
import socket
import sys
from typing import Any


def connect(where: str) -> socket.socket:
    """The connection that the first argument names."""
    if where.startswith("fd:"):
        return socket.socket(fileno=int(where[3:]))
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(where)
    return connection


def obey(connection: socket.socket) -> None:
    """Run lines until the connection ends."""
    space: dict[str, Any] = {"os": os, "sys": sys, "socket": socket, "connection": connection}
    for line in connection.makefile("r"):
        space["result"] = None
        try:
            exec(line, space)  # noqa: S102  # that is what a puppet is for
            answer = repr(space["result"])
        except Exception as error:  # noqa: BLE001  # told to the test, whatever it is
            answer = repr(error)
        connection.sendall(answer.encode() + b"\n")


if __name__ == "__main__":
    link = connect(sys.argv[1])
    link.sendall(" ".join(sys.argv[2:]).encode() + b"\n")
    obey(link)
