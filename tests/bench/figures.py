"""What is measured: one function a group of figures.  The aims are those of the first release."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench import references
from bench.load import Load, closed_loop, loads_in_turns
from bench.measure import Figure, in_turns, percentile, process_s, seconds
from secret_agent_client.wire import encode
from support.agent import PASSPHRASE, Agent
from support.real import need

NAME = "bench/one"
HELLO = encode({"id": 0, "verb": "hello", "body": {"version": 1}})
GET = encode({"id": 1, "verb": "get", "body": {"name": NAME, "channel": "library"}})
LOOP_S = 1.0  # seconds of one turn of a closed loop


def whole_processes(agent: Agent, folder: Path, *, rounds: int) -> list[Figure]:
    """`secret-agent get` as a whole process, against what people type instead."""
    ours = agent.environment()
    get = [str(entry_point(folder)), "get", NAME]
    with contextlib.ExitStack() as stack:
        ssh = stack.enter_context(references.ssh_agent(_fresh(folder, "ssh")))
        keyring = stack.enter_context(references.secret_service(_fresh(folder, "keyring")))
        store = stack.enter_context(references.password_store(_fresh(folder, "pass")))
        works: dict[str, Callable[[], float]] = {
            "get": lambda: process_s(get, ours),
            "python -c pass": lambda: process_s([sys.executable, "-c", "pass"], ours),
            "ssh-add -l": lambda: process_s(
                [need("ssh-add"), "-l"], {**ours, "SSH_AUTH_SOCK": ssh.socket}
            ),
            "secret-tool lookup": lambda: process_s(
                [need("secret-tool"), "lookup", "name", "bench"], keyring
            ),
            "pass show": lambda: process_s([need("pass"), "show", "bench"], store),
        }
        took = in_turns(works, rounds=rounds)
    aims = {"python -c pass": 1.25, "secret-tool lookup": 1.0, "pass show": 1.0, "ssh-add -l": None}
    return [
        Figure("get, whole process", took["get"], "s", name, took[name], aim)
        for name, aim in aims.items()
    ]


def requests(agent: Agent, folder: Path, *, rounds: int) -> list[Figure]:
    """get over the socket, audit synced, against ssh-agent's two requests and the disk's sync."""
    with references.ssh_agent(_fresh(folder, "ssh-load")) as ssh:

        def loops(connections: int) -> dict[str, Load]:
            ours = partial(closed_loop, agent.socket, GET, greeting=HELLO)
            every = {
                "get": ours,
                "list": partial(closed_loop, ssh.socket, references.LIST_IDENTITIES),
                "sign": partial(closed_loop, ssh.socket, ssh.sign),
            }
            return loads_in_turns(
                {
                    name: partial(loop, connections=connections, for_s=LOOP_S)
                    for name, loop in every.items()
                },
                rounds=rounds,
            )

        sync = references.sync_s(folder)
        one, many = loops(1), loops(64)
        sync = (sync + references.sync_s(folder)) / 2
    return [*_of_one_connection(one, sync), *_of_many_connections(many)]


def _of_one_connection(loads: dict[str, Load], sync: float) -> list[Figure]:
    get, identities, sign = loads["get"], loads["list"], loads["sign"]
    return [
        Figure("get, 1 connection, p50", get.p50_s, "us", "one fdatasync", sync, 3.0),
        Figure("get, 1 connection, p99", get.p99_s, "us", "ssh list, p99", identities.p99_s),
        Figure("get, 1 connection", get.rate, "/s", "ssh list", identities.rate),
        Figure("get, 1 connection", get.rate, "/s", "ssh sign", sign.rate),
    ]


def _of_many_connections(loads: dict[str, Load]) -> list[Figure]:
    get, identities, sign = loads["get"], loads["list"], loads["sign"]
    return [
        Figure("get, 64 connections", get.rate, "/s", "ssh sign", sign.rate, 6.0, at_least=True),
        Figure("get, 64 connections", get.rate, "/s", "ssh list", identities.rate),
        Figure("get, 64 connections, p50", get.p50_s, "us", "ssh sign, p50", sign.p50_s),
        Figure("get, 64 connections, p99", get.p99_s, "us", "ssh sign, p99", sign.p99_s),
    ]


def start_and_unlock(folder: Path, *, rounds: int) -> list[Figure]:
    """A cold start until the socket answers, and an unlock."""
    environment = {"PATH": os.environ["PATH"]}
    unlocks: list[float] = []

    def start() -> float:
        begin = time.perf_counter()
        with Agent(base=folder) as agent:
            agent.call("status")
            took = time.perf_counter() - begin
            agent.unlock()
            unlocks.append(seconds(lambda: _lock_and_unlock(agent)))
        return took

    took = in_turns(
        {
            "start": start,
            "python": lambda: process_s([sys.executable, "-c", "pass"], environment),
        },
        rounds=rounds,
        warm_up=1,
    )
    unlock = percentile(unlocks, 0.5)
    return [
        Figure("start to answering", took["start"], "s", "python -c pass", took["python"], 25.0),
        Figure("lock and unlock", unlock, "s", "one Argon2id", _argon2_s()),
    ]


def _lock_and_unlock(agent: Agent) -> None:
    agent.call("lock")
    agent.unlock()


def _argon2_s() -> float:
    """RFC 9106's second choice, as the store's format prescribes it."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    def once() -> None:
        Argon2id(salt=bytes(16), length=32, iterations=3, lanes=4, memory_cost=65536).derive(
            PASSPHRASE
        )

    return percentile([seconds(once) for _ in range(5)], 0.5)


def memory(agent: Agent, folder: Path) -> list[Figure]:
    """Idle, unlocked."""
    try:
        ours = references.pss_mib(agent.pid)
    except PermissionError:
        return []  # the agent is not dumpable: only root may read this
    with references.password_store(_fresh(folder, "pass-memory")) as store:
        gpg = references.pss_mib(references.gpg_agent_pid(store))
    with references.idle_python() as pid:
        bare = references.pss_mib(pid)
    return [
        Figure("idle memory, unlocked", ours, "MiB", "30 MiB", 30.0, 1.0),
        Figure("idle memory, unlocked", ours, "MiB", "gpg-agent", gpg),
        Figure("idle memory, unlocked", ours, "MiB", "bare python", bare),
    ]


def endings(agent: Agent, *, rounds: int) -> list[Figure]:
    """From SIGKILL of a holder to its lease being gone."""
    taken = []
    with agent.connect() as control:
        control.hello()
        for _ in range(rounds):
            holder, lease = _holder(agent)
            begin = time.perf_counter()
            os.kill(holder.pid, signal.SIGKILL)
            while lease in _ids(control.call("leases")):
                pass
            taken.append(time.perf_counter() - begin)
            holder.wait()
    limit = 0.05
    return [
        Figure("SIGKILL to revoked, p99", percentile(taken, 0.99), "s", "50 ms", limit, 1.0),
        Figure("SIGKILL to revoked, p50", percentile(taken, 0.5), "s", "50 ms", limit),
    ]


_HOLD = """
import socket, sys
sys.path.insert(0, sys.argv[1])
from secret_agent_client.wire import Decoder, encode
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[2])
s.sendall(encode({"id": 0, "verb": "hello", "body": {"version": 1}}))
s.sendall(encode({"id": 1, "verb": "get", "body": {"name": sys.argv[3]}}))
decoder = Decoder()
while True:
    decoder.feed(s.recv(65536))
    while (message := decoder.next()) is not None:
        if message["id"] == 1:
            print(message["ok"]["lease"]["id"], flush=True)
"""


def _holder(agent: Agent) -> tuple["subprocess.Popen[str]", str]:
    """A process that holds a lease until it is killed, and the lease's id."""
    client = str(Path(__file__).parents[2] / "client")
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _HOLD, client, str(agent.socket), NAME],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def _ids(reply: dict[str, Any]) -> set[str]:
    return {lease["id"] for lease in reply["leases"]}


def running(agent: Agent, folder: Path, *, rounds: int) -> list[Figure]:
    """`run` against running the command itself, and what masking lets through."""
    ours = agent.environment()
    run = [str(entry_point(folder)), "run", "--env", f"VALUE={NAME}", "--"]
    text = folder / "output"
    text.write_bytes(b"a line of output as programs print it, 64 bytes with its end..\n" * 2**20)
    size_mib = text.stat().st_size / 2**20
    took = in_turns(
        {
            "run": lambda: process_s([*run, "true"], ours),
            "true": lambda: process_s(["true"], ours),
            "python": lambda: process_s([sys.executable, "-c", "pass"], ours),
            "run cat": lambda: _drained_s([*run, "cat", str(text)], ours),
            "cat": lambda: _drained_s(["cat", str(text)], ours),
        },
        rounds=rounds,
    )
    net = took["run cat"] - took["run"]
    return [
        Figure("run -- true", took["run"], "s", "python -c pass", took["python"]),
        Figure("run -- true", took["run"], "s", "true", took["true"]),
        Figure("masking", size_mib / net, "MiB/s", "cat", size_mib / took["cat"]),
    ]


def _drained_s(command: list[str], environment: dict[str, str]) -> float:
    """How long a command takes whose output goes through a pipe and is thrown away."""

    def once() -> None:
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while process.stdout.read1(2**20):  # type: ignore[attr-defined]  # it is buffered
                pass
        assert process.returncode == 0

    return seconds(once)


def entry_point(folder: Path) -> Path:
    """The command as an installation has it: the script, with this interpreter named in it."""
    made = folder / "secret-agent"
    if not made.exists():
        script = Path(__file__).parents[2] / "client" / "bin" / "secret-agent"
        _, _, rest = script.read_text().partition("\n")
        made.write_text(f"#!{sys.executable}\n{rest}")
        made.chmod(0o755)
    return made


def _fresh(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir(mode=0o700)
    return made
