"""The programs that we are measured against, each started for the purpose and ended after it."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.real import need

LIST_IDENTITIES = b"\x00\x00\x00\x01\x0b"  # SSH_AGENTC_REQUEST_IDENTITIES, PROTOCOL.agent 3.5


@dataclass(frozen=True)
class SshAgent:
    """A running ssh-agent with one Ed25519 key."""

    socket: str
    pid: int
    sign: bytes  # a request to sign 32 bytes with that key


@contextlib.contextmanager
def ssh_agent(folder: Path) -> Iterator[SshAgent]:
    """ssh-agent in the foreground, a key added."""
    path = folder / "ssh.sock"
    process = subprocess.Popen(
        [need("ssh-agent"), "-D", "-a", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not path.exists():
            time.sleep(0.01)
        key = folder / "key"
        subprocess.run(
            [need("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True
        )
        environment = {**os.environ, "SSH_AUTH_SOCK": str(path)}
        subprocess.run([need("ssh-add"), "-q", str(key)], env=environment, check=True)
        public = key.with_suffix(".pub").read_text().split()[1]
        yield SshAgent(str(path), process.pid, _sign_request(public))
    finally:
        process.terminate()
        process.wait()


def _sign_request(public: str) -> bytes:
    """SSH_AGENTC_SIGN_REQUEST (13): key blob, data, flags; PROTOCOL.agent 3.6."""
    import base64

    blob, data = base64.b64decode(public), bytes(32)
    body = b"\x0d" + len(blob).to_bytes(4, "big") + blob + len(data).to_bytes(4, "big") + data
    body += bytes(4)
    return len(body).to_bytes(4, "big") + body


@contextlib.contextmanager
def secret_service(folder: Path) -> Iterator[dict[str, str]]:
    """A session bus with an unlocked gnome-keyring that holds one item; the environment for it."""
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder / "data")}
    environment["XDG_RUNTIME_DIR"] = str(folder)
    address = f"unix:path={folder / 'bus'}"
    bus = subprocess.Popen(
        [need("dbus-daemon"), "--session", "--nofork", f"--address={address}"],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    environment["DBUS_SESSION_BUS_ADDRESS"] = address
    keyring = None
    try:
        while not (folder / "bus").exists():
            time.sleep(0.01)
        keyring = subprocess.Popen(
            [need("gnome-keyring-daemon"), "--unlock", "--foreground", "--components=secrets"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert keyring.stdin is not None
        keyring.stdin.write(b"passphrase")
        keyring.stdin.close()
        _store_item(environment)
        yield environment
    finally:
        for process in filter(None, (keyring, bus)):
            process.terminate()
            process.wait()


def _store_item(environment: dict[str, str]) -> None:
    command = [need("secret-tool"), "store", "--label=bench", "name", "bench"]
    for _ in range(50):  # the keyring needs a moment to take its name on the bus
        done = subprocess.run(
            command, input=b"value", env=environment, check=False, stderr=subprocess.DEVNULL
        )
        if done.returncode == 0:
            return
        time.sleep(0.1)
    raise RuntimeError("gnome-keyring takes no item")


@contextlib.contextmanager
def password_store(folder: Path) -> Iterator[dict[str, str]]:
    """`pass` with one entry and a key without a passphrase, gpg-agent running; its environment."""
    home = folder / "gnupg"
    home.mkdir(mode=0o700)
    environment = {
        **os.environ,
        "HOME": str(folder),
        "GNUPGHOME": str(home),
        "PASSWORD_STORE_DIR": str(folder / "store"),
    }
    make = ["--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-gen-key"]
    try:
        _quietly([need("gpg"), *make, "bench"], environment)
        _quietly([need("pass"), "init", "bench"], environment)
        _quietly([need("pass"), "insert", "-m", "bench"], environment, b"value")
        yield environment
    finally:
        subprocess.run([need("gpgconf"), "--kill", "all"], env=environment, check=False)


def _quietly(command: list[str], environment: dict[str, str], said: bytes = b"") -> None:
    subprocess.run(command, env=environment, input=said, capture_output=True, check=True)


def gpg_agent_pid(environment: dict[str, str]) -> int:
    """The pid of the gpg-agent that serves this GNUPGHOME."""
    asked = subprocess.run(
        [need("gpg-connect-agent"), "getinfo pid", "/bye"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(asked.stdout.split()[1])


@contextlib.contextmanager
def idle_python() -> Iterator[int]:
    """A python that has imported nothing and waits; its pid."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "import sys; print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
    finally:
        process.communicate()


def pss_mib(pid: int) -> float:
    """Proportional set size.  Of an agent that is not dumpable only root may read it."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no Pss of {pid}")


def sync_s(folder: Path, times: int = 200) -> float:
    """The median of appending a record's worth of bytes and fdatasync, on that disk."""
    taken = []
    with (folder / "sync").open("ab", buffering=0) as file:
        for _ in range(times):
            begin = time.perf_counter()
            file.write(bytes(512))
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - begin)
    return sorted(taken)[times // 2]
