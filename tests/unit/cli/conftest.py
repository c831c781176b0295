"""What the tests of the client's command line share."""

from support.client_fixtures import folder, socket_path

__all__ = ["folder", "socket_path"]
