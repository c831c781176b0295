"""Values as files of a `run` child: in the folder that the agent made for us, or in memory.

    in the folder   0700 on tmpfs, made by the agent, which removes it when we are gone, when the
                    session locks and when it ends itself: nothing stays, even after SIGKILL (T49)
    in memory       a sealed memfd, inherited by the child; its path is /dev/fd/N.  Used where the
                    agent has no tmpfs, or where we came by a scoped socket, which makes no folders

A memfd's path can be opened, more than once, by every process that inherited the descriptor: cat,
curl, openssl, ssh -i, psql, kubectl, and what a shell starts.  It cannot be opened by a program
that closes what it inherits before it starts others (Python's subprocess, sudo, most daemons), nor
by one that is told the path and runs elsewhere.

Rules that hold here: a new file under a name of ours (O_EXCL, O_NOFOLLOW, 0600), in a directory
that is checked once and then held open; a memfd cannot be written, grown or shrunk once sealed;
its descriptor closes on every exec but the child's.
"""

import fcntl
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from secret_agent_client.errors import InvalidError, UnavailableError

# Shells use descriptors below 10 in their own scripts, and some of them 10 and above for theirs.
FIRST_DESCRIPTOR = 40

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class ValueFiles:
    """Files that exist, by the environment's name for each.

    paths: what the child is told.  descriptors: what it has to inherit.
    """

    paths: dict[str, bytes]
    descriptors: tuple[int, ...] = ()
    _directory: int | None = None

    def remove(self) -> None:
        """Take them away again: the child has ended, or is about to get new ones."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        if self._directory is not None:
            for name in self.paths:
                with suppress(OSError):  # the agent was quicker
                    os.unlink(name, dir_fd=self._directory)
            os.close(self._directory)
        self.paths, self.descriptors, self._directory = {}, (), None


def write_in_folder(folder: str, values: Mapping[str, bytes]) -> ValueFiles:
    """Write each value into a file of its name.  Raises InvalidError, UnavailableError."""
    try:
        directory = os.open(folder, _DIRECTORY)
    except OSError as error:
        raise _failed("the folder for files cannot be opened", error) from None
    files = ValueFiles({}, (), directory)
    try:
        _check_folder(directory)
        for name, value in values.items():
            _write_file(directory, name, value)
            files.paths[name] = os.fsencode(f"{folder}/{name}")
    except OSError as error:
        files.remove()
        raise _failed("the file of a value cannot be written", error) from None
    except BaseException:
        files.remove()
        raise
    return files


def write_in_memory(values: Mapping[str, bytes]) -> ValueFiles:
    """Put each value into a sealed memfd.  Raises UnavailableError."""
    files = ValueFiles({})
    try:
        for name, value in values.items():
            descriptor = _sealed_memory(name, value)
            files.descriptors += (descriptor,)
            files.paths[name] = b"/dev/fd/%d" % descriptor
    except OSError as error:
        files.remove()
        raise _failed("memory for a value cannot be had", error) from None
    return files


def _check_folder(directory: int) -> None:
    known = os.fstat(directory)
    if known.st_uid != os.geteuid() or stat.S_IMODE(known.st_mode) & 0o077:
        raise InvalidError("the folder for files is not ours alone", remedy="secret-agent doctor")


def _write_file(directory: int, name: str, value: bytes) -> None:
    descriptor = os.open(name, _NEW, 0o600, dir_fd=directory)
    try:
        _write_all(descriptor, value)
    except OSError:
        os.unlink(name, dir_fd=directory)
        raise
    finally:
        os.close(descriptor)


def _sealed_memory(name: str, value: bytes) -> int:
    made = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.fchmod(made, 0o400)  # ssh refuses a key that others could read
        _write_all(made, value)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(made, fcntl.F_ADD_SEALS, seals)
        os.lseek(made, 0, os.SEEK_SET)  # for programs that read the descriptor itself
        return fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR)
    finally:
        os.close(made)


def _write_all(descriptor: int, value: bytes) -> None:
    rest = memoryview(value)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _failed(what: str, error: OSError) -> UnavailableError:
    return UnavailableError(f"{what}: {os.strerror(error.errno or 0).lower()}")
