"""A session bus of our own and what lives on it: gnome-keyring, or a Secret Service that never
answers.

Rules that hold here: no service is activated, so that nothing of the machine's own is started; a
program counts as ready when the bus says that its name has an owner; every wait has a deadline;
what was started is ended by its own id.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jeepney import DBusAddress, MatchRule, Properties, message_bus, new_method_call
from jeepney.io.blocking import DBusConnection, Proxy, open_dbus_connection

from support.real import need

SECRETS = "org.freedesktop.secrets"
DEADLINE_S = 20.0
_CONFIG = """<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/>
</policy></busconfig>"""
_SILENT = """
import sys
from jeepney import message_bus
from jeepney.io.blocking import Proxy, open_dbus_connection
connection = open_dbus_connection(sys.argv[1])
Proxy(message_bus, connection).RequestName("org.freedesktop.secrets")
while True:
    message = connection.receive()
    print(message.header.message_type.name, flush=True)
"""


class SessionBus:
    """A running dbus-daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix:path={folder}/bus"
        config = folder / "bus.conf"
        config.write_text(_CONFIG.format(folder / "bus"))
        self._daemon = subprocess.Popen(
            [need("dbus-daemon"), f"--config-file={config}", "--nofork", "--print-address=1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._daemon.stdout is not None
        self._daemon.stdout.readline()

    def close(self) -> None:
        _end(self._daemon)

    @contextmanager
    def connected(self) -> Iterator[DBusConnection]:
        with open_dbus_connection(self.address) as connection:
            yield connection

    @contextmanager
    def gnome_keyring(self, password: bytes | None) -> Iterator["subprocess.Popen[bytes]"]:
        """gnome-keyring-daemon: unlocked by a password, or started as it is without one."""
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "XDG_RUNTIME_DIR": str(self.folder),
            "DBUS_SESSION_BUS_ADDRESS": self.address,
        }
        command = [need("gnome-keyring-daemon"), "--foreground", "--components=secrets"]
        command += ["--unlock"] if password is not None else []
        with self._owning(command, environment, password) as daemon:
            yield daemon

    @contextmanager
    def silence(self) -> Iterator["subprocess.Popen[bytes]"]:
        """A Secret Service that reads every call, says so on its stdout, and answers none."""
        command = [sys.executable, "-c", _SILENT, self.address]
        with self._owning(command, {**os.environ}, None) as service:
            yield service

    @contextmanager
    def _owning(
        self, command: list[str], environment: dict[str, str], said: bytes | None
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """A process that owns the Secret Service's name."""
        with self.connected() as connection, _owner_changes(connection) as changes:
            started = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            assert started.stdin is not None
            try:
                started.stdin.write(said or b"")
                started.stdin.close()
                while not connection.recv_until_filtered(changes, timeout=DEADLINE_S).body[2]:
                    pass
                yield started
            finally:
                _end(started)

    def lock_keyring(self) -> None:
        """Lock every collection, as a screen lock may."""
        self._service("Lock", "ao", (self.collections(),))

    def collections(self) -> list[str]:
        """The D-Bus paths of all collections."""
        address = DBusAddress("/org/freedesktop/secrets", SECRETS, "org.freedesktop.Secret.Service")
        with self.connected() as connection:
            reply = connection.send_and_get_reply(
                Properties(address).get("Collections"), timeout=DEADLINE_S
            )
        paths: list[str] = reply.body[0][1]
        return paths

    def _service(self, method: str, signature: str, body: tuple[Any, ...]) -> Any:
        address = DBusAddress("/org/freedesktop/secrets", SECRETS, "org.freedesktop.Secret.Service")
        with self.connected() as connection:
            call = new_method_call(address, method, signature, body)
            return connection.send_and_get_reply(call, timeout=DEADLINE_S).body


@contextmanager
def session_bus() -> Iterator[SessionBus]:
    """A bus in a folder of its own, whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="sa-bus-") as folder:
        bus = SessionBus(Path(folder))
        try:
            yield bus
        finally:
            bus.close()


@contextmanager
def _owner_changes(connection: DBusConnection) -> Iterator[Any]:
    rule = MatchRule(type="signal", interface="org.freedesktop.DBus", member="NameOwnerChanged")
    rule.add_arg_condition(0, SECRETS)
    Proxy(message_bus, connection, timeout=DEADLINE_S).AddMatch(rule)
    with connection.filter(rule) as changes:
        yield changes


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
