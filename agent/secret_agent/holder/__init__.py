"""Who is at the other end of a connection.

`Peer.from_socket` once a connection, `peer.identify` at each request, `peer.pidfd` to watch for its
end.  `open_pidfd` gives a pidfd of any process that was identified before.  identify.py tells what
is read when; linux.py the races and what closes each; shells.py which shell a process belongs to;
container.py and namespaces.py where it runs.
"""

import sys

from secret_agent.holder.shells import find_shell

if sys.platform == "linux":
    from secret_agent.holder.identify import Peer
    from secret_agent.holder.linux import open_pidfd
    from secret_agent.holder.namespaces import Namespaces
else:
    from secret_agent.holder.unsupported import Namespaces, Peer, open_pidfd

__all__ = ["Namespaces", "Peer", "find_shell", "open_pidfd"]
