"""The parsers of /proc's text: exact on what the kernel writes, safe on what processes choose."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent.holder.proc import (
    CgroupLine,
    PidfdInfo,
    Stat,
    Status,
    parse_arguments,
    parse_cgroup,
    parse_mount_ids,
    parse_pidfd_info,
    parse_stat,
    parse_status,
    terminal_name,
    text_of,
)

# As the kernel wrote it for a bash on a terminal.
STAT = (
    b"11231 (bash) S 11228 11231 4763 34816 11231 4194304 2108 11903 0 0 0 1 10 6 20 0 1 0 226555 "
    b"4743168 912 18446744073709551615 94868086566912 94868087589616 140722193026928 0 0 0 65536 "
    b"3670020 1266777851 1 0 0 17 1 0 0 0 0 0 94868087738416 94868087786132 94868362973184 "
    b"140722193029410 140722193029420 140722193029420 140722193031146 0\n"
)

comms = st.binary(min_size=0, max_size=15).filter(lambda comm: b"\0" not in comm)


def stat_of(name: bytes, *, pid: int = 7, ppid: int = 1, start: int = 9) -> bytes:
    """A line of /proc/PID/stat with every other field at its field number."""
    fields = [str(number).encode() for number in range(4, 53)]
    fields[0], fields[18] = str(ppid).encode(), str(start).encode()
    return b"%d (%b) S %b\n" % (pid, name, b" ".join(fields))


def test_every_field_of_a_real_stat_is_found() -> None:
    layout = (
        b"94868086566912",
        b"140722193026928",
        b"94868362973184",
        b"140722193029410",
        b"140722193031146",
    )
    assert parse_stat(STAT) == Stat(11231, "bash", 11228, 4763, 34816, 226555, layout)


def test_the_fields_are_those_of_the_manual() -> None:
    """proc_pid_stat(5): 6 session, 7 tty_nr, 26 startcode, 28 startstack, 47, 48 and 51."""
    parsed = parse_stat(stat_of(b"x"))
    assert (parsed.session_id, parsed.tty_device) == (6, 7)
    assert parsed.layout == (b"26", b"28", b"47", b"48", b"51")


@pytest.mark.parametrize(
    "name", [b"a) R 1 (", b") S 0 0 0 (", b"", b"(", b")", b" ", b"a b\n1 (b) S", b") ) ) "]
)
def test_a_hostile_name_moves_no_field(name: bytes) -> None:
    parsed = parse_stat(stat_of(name, pid=7, ppid=5, start=99))
    assert (parsed.pid, parsed.ppid, parsed.start_time) == (7, 5, 99)
    assert parsed.name == name.decode()


@given(name=comms, pid=st.integers(1, 2**22), ppid=st.integers(0, 2**22), start=st.integers(0))
def test_no_name_whatever_moves_a_field(name: bytes, pid: int, ppid: int, start: int) -> None:
    parsed = parse_stat(stat_of(name, pid=pid, ppid=ppid, start=start))
    assert (parsed.pid, parsed.ppid, parsed.start_time) == (pid, ppid, start)
    parsed.name.encode()  # no lone surrogates: every log and the wire can carry it


def test_a_layout_that_the_kernel_hides_is_none() -> None:
    fields = STAT.split(b" ")
    fields[25], fields[27] = b"1", b"0"
    assert parse_stat(b" ".join(fields)).layout is None


@pytest.mark.parametrize(
    "text", [b"", b"7", b"7 (x", b"7 x) S 1", b"7 (x) S 1 2 3", STAT.replace(b"226555", b"y")]
)
def test_a_malformed_stat_is_refused_without_being_shown(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^malformed /proc/PID/stat: ") as caught:
        parse_stat(text)
    assert caught.value.__cause__ is None


@given(st.binary(max_size=400))
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    """Nothing but ValueError, whatever the text."""
    for parse in (
        parse_stat,
        parse_status,
        parse_pidfd_info,
        parse_cgroup,
        parse_mount_ids,
        parse_arguments,
    ):
        with contextlib.suppress(ValueError):
            parse(raw)


def test_our_own_stat_tells_what_the_system_calls_tell() -> None:
    parsed = parse_stat(Path("/proc/self/stat").read_bytes())
    assert (parsed.pid, parsed.ppid) == (os.getpid(), os.getppid())
    assert parsed.session_id == os.getsid(0)
    assert parsed.layout is not None


def test_our_own_status_tells_what_the_system_calls_tell() -> None:
    parsed = parse_status(Path("/proc/self/status").read_bytes())
    assert parsed.uids[:3] == os.getresuid()
    assert parsed.gids[:3] == os.getresgid()


def test_status_keeps_all_four_ids_apart() -> None:
    text = b"Name:\tUid:\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n"
    assert parse_status(text) == Status((1, 2, 3, 4), (5, 6, 7, 8))


@pytest.mark.parametrize("text", [b"", b"Uid:\t1\nGid:\t1\n", b"Uid:\t1\t2\t3\tx\n"])
def test_a_malformed_status_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="status"):
        parse_status(text)


def test_fdinfo_tells_the_pid_in_each_namespace() -> None:
    text = b"pos:\t0\nflags:\t02000002\nmnt_id:\t4\nino:\t9998\nPid:\t9997\nNSpid:\t9997\t3\n"
    assert parse_pidfd_info(text) == PidfdInfo(9997, (9997, 3))


def test_fdinfo_of_a_reaped_process_is_minus_one() -> None:
    assert parse_pidfd_info(b"pos:\t0\nPid:\t-1\n").pid == -1


def test_fdinfo_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="no single Pid"):
        parse_pidfd_info(b"pos:\t0\nflags:\t02\n")


def test_cgroup_lines_keep_colons_in_paths() -> None:
    raw = b"12:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/x:y:z\n"
    assert parse_cgroup(raw) == (
        CgroupLine(12, "cpu,cpuacct", "/a"),
        CgroupLine(1, "name=systemd", "/b:c"),
        CgroupLine(0, "", "/x:y:z"),
    )


@pytest.mark.parametrize("text", [b"nonsense\n", b"x::/\n", b"-1::/\n", b"0:/\n"])
def test_a_malformed_cgroup_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="malformed /proc/PID/cgroup"):
        parse_cgroup(text)


def test_mount_ids_are_the_first_numbers() -> None:
    raw = b"22 1 254:0 / / rw - ext4 /dev/vda rw\n31 22 0:5 / /dev rw - devtmpfs none rw\n"
    assert parse_mount_ids(raw) == {22, 31}
    with pytest.raises(ValueError, match="mountinfo"):
        parse_mount_ids(b"x 1 254:0 / /\n")


@pytest.mark.parametrize(
    ("raw", "arguments"),
    [
        (b"", ()),
        (b"sh\0-c\0true\0", ("sh", "-c", "true")),
        (b"busybox\0sh", ("busybox", "sh")),
        (b"\xff\0", (r"\xff",)),
    ],
)
def test_arguments_are_split_at_nul(raw: bytes, arguments: tuple[str, ...]) -> None:
    assert parse_arguments(raw) == arguments


@given(st.binary())
def test_text_of_any_bytes_can_be_encoded(raw: bytes) -> None:
    text_of(raw).encode()


@pytest.mark.parametrize(
    ("device", "name"),
    [
        (0, None),
        (os.makedev(136, 0), "/dev/pts/0"),
        (os.makedev(136, 7), "/dev/pts/7"),
        (os.makedev(136, 300), "/dev/pts/300"),
        (os.makedev(137, 1), "/dev/pts/257"),
        (os.makedev(4, 1), "/dev/tty1"),
        (os.makedev(4, 64), "/dev/ttyS0"),
        (os.makedev(5, 1), "/dev/console"),
        (os.makedev(204, 64), "tty:204:64"),
        (os.makedev(136, 2**19) - 2**32, f"/dev/pts/{2**19}"),  # the kernel prints it signed
    ],
)
def test_terminals_are_named_by_their_device_number(device: int, name: str | None) -> None:
    assert terminal_name(device) == name
