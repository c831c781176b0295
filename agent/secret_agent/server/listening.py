"""Accept connections: the control socket's and each scope's; admit or refuse; serve; and end them
with their scope.

Admission to the control socket: our own uid, our own namespaces, a process that can be looked at.
Everybody else is closed
before a byte is read, without a word, and recorded: other users, root, processes in other
namespaces, processes
that are gone.  A scope's socket admits the uids that the scope names, from any namespace: it was
made for them.
"""

import os
import resource
import socket
from collections import Counter
from collections.abc import Callable

import trio

from secret_agent.core import Agent
from secret_agent.holder.identify import Peer
from secret_agent.holder.namespaces import Namespaces
from secret_agent.model import Holder, ProcessKey
from secret_agent.scopes import Scope
from secret_agent.server.connection import Connection, Handler
from secret_agent.server.limits import ConnectionCount
from secret_agent.server.socket import identity_of, unlink_socket
from secret_agent_client.errors import DeniedError, SecretAgentError

REST_S = 0.01  # after an accept that failed for want of something


class Listening:
    """All sockets of the agent and who is connected to them."""

    def __init__(
        self,
        agent: Agent,
        nursery: trio.Nursery,
        tables: tuple[dict[str, Handler], dict[str, Handler]],
        *,
        report_bug: Callable[[BaseException], None],
    ) -> None:
        self._agent = agent
        self._nursery = nursery
        self._control, self._scoped = tables
        self._report_bug = report_bug
        self._own = Namespaces.own()
        self._count = ConnectionCount(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._connected: dict[Connection, ProcessKey] = {}  # to the control socket
        self._scopes: dict[str, trio.CancelScope] = {}
        self.of_scope: Counter[str] = Counter()

    async def serve_control(self, listener: socket.socket) -> None:
        """Accept on the control socket for as long as the agent lives."""
        await self._accept(listener, self._nursery, None)

    def serve_scope(self, scope: Scope, listener: socket.socket) -> None:
        """Accept on a scope's socket until `end_scope`."""
        ends = self._scopes[scope.id] = trio.CancelScope()
        self._nursery.start_soon(self._serve_scope, scope, listener, ends)

    def end_scope(self, scope: Scope) -> None:
        """Close a scope's socket and every connection that came by it."""
        ends = self._scopes.pop(scope.id, None)
        if ends is not None:
            ends.cancel()

    async def _serve_scope(
        self, scope: Scope, listener: socket.socket, ends: trio.CancelScope
    ) -> None:
        # A scope's holder may live in another mount namespace, where the same path is another file:
        # a name told from there is never unlinked here.
        identity = identity_of(scope.socket_path) if scope.parent is None else None
        try:
            with ends:
                async with trio.open_nursery() as nursery:
                    await self._accept(listener, nursery, scope)
        finally:
            listener.close()
            unlink_socket(scope.socket_path, identity)

    async def _accept(
        self, listener: socket.socket, nursery: trio.Nursery, scope: Scope | None
    ) -> None:
        listener.setblocking(False)
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                accepted, _ = listener.accept()
            except BlockingIOError:
                continue
            except OSError:
                # Out of descriptors, or a peer that hung up at once: let others end, then go on.
                await trio.sleep(REST_S)
                continue
            accepted.setblocking(False)
            nursery.start_soon(self._serve, accepted, scope)

    async def _serve(self, accepted: socket.socket, scope: Scope | None) -> None:
        scope_id = None if scope is None else scope.id
        with accepted:
            try:
                peer = Peer.from_socket(accepted, own=self._own)
            except SecretAgentError as error:
                self._refused(None, error.message, scope_id)
                return
            try:
                await self._serve_peer(accepted, peer, scope)
            finally:
                peer.close()

    async def _serve_peer(self, sock: socket.socket, peer: Peer, scope: Scope | None) -> None:
        scope_id = None if scope is None else scope.id
        try:
            holder = peer.identify(scope=scope_id)
        except SecretAgentError as error:
            self._refused(None, error.message, scope_id)
            return
        why = _refusal(holder, scope) or self._count.full(holder.process, self._outermost(scope))
        if why is not None:
            self._refused(holder, why, scope_id)
            return
        handlers = self._control if scope is None else self._scoped
        connection = Connection(sock, peer, handlers, scope=scope_id, report_bug=self._report_bug)
        await self._run(connection, holder, self._outermost(scope))

    async def _run(self, connection: Connection, holder: Holder, outermost: str | None) -> None:
        process, uid = holder.process, holder.uid

        def gone(_process: ProcessKey) -> None:
            connection.closing.cancel()

        try:
            self._agent.watcher.watch(process, gone, opener=connection.peer.open_pidfd)
        except DeniedError:
            return
        if outermost is None and self._count.crowded(uid):
            self._make_room()
        self._count.opened(process, uid, outermost)
        if outermost is None:
            self._connected[connection] = process
        if connection.scope is not None:
            self.of_scope[connection.scope] += 1
        try:
            await connection.run()
        finally:
            self._agent.watcher.unwatch(process, gone)
            self._count.closed(process, uid, outermost)
            self._connected.pop(connection, None)
            self._agent.desk.dismissed(connection)
            if connection.scope is not None:
                self.of_scope[connection.scope] -= 1
            if connection.listener is not None:
                self._agent.hub.remove(connection.listener)

    def _make_room(self) -> None:
        """Close one connection of the user's, so that no number of them keeps a person out.

        Rather an idle one than one that awaits an answer or events, of the process with the most,
        heard from longest ago.
        """
        open_ones = [each for each in self._connected if not each.closing.cancel_called]
        if open_ones:
            min(open_ones, key=self._worth).closing.cancel()

    def _worth(self, connection: Connection) -> tuple[int, int, float]:
        waits = 2 * connection.waits + (connection.listener is not None)
        of_process = self._count.of(self._connected[connection])
        return waits, -of_process, connection.heard_at

    def _outermost(self, scope: Scope | None) -> str | None:
        """The scope under which a scope's connections are counted: what made it counts too."""
        if scope is None:
            return None
        return scope.id if scope.parent is None else scope.parent

    def _refused(self, holder: Holder | None, why: str, scope: str | None) -> None:
        self._agent.record_later(
            {
                "event": "connection",
                "action": "connect",
                "outcome": "deny",
                "because": why,
                "holder": holder,
                "scope": scope,
            }
        )


def _refusal(holder: Holder, scope: Scope | None) -> str | None:
    """Why a peer is not admitted, or None."""
    if scope is not None:
        return (
            None if holder.uid in scope.uids else f"peer_uid: the scope is not for uid {holder.uid}"
        )
    if holder.uid != os.geteuid():
        return f"peer_uid: uid {holder.uid} is not the agent's"
    if holder.foreign_namespaces:
        return f"peer_namespace: another {', '.join(holder.foreign_namespaces)} namespace"
    if not holder.inspectable:
        return "peer_hidden: the process cannot be looked at (it is not dumpable)"
    return None
