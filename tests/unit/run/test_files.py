"""Values as files: private, sealed, under names of ours, and gone afterwards."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from secret_agent_client.errors import InvalidError, UnavailableError
from secret_agent_client.files import FIRST_DESCRIPTOR, write_in_folder, write_in_memory

VALUE = b"\x00binary\xff" * 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir(mode=0o700)
    return made


class TestFolder:
    def test_the_file_holds_the_value_and_is_ours_alone(self, folder: Path) -> None:
        before = os.umask(0)
        try:
            files = write_in_folder(str(folder), {"KEY": VALUE})
        finally:
            os.umask(before)
        path = Path(os.fsdecode(files.paths["KEY"]))
        assert path == folder / "KEY"
        assert path.read_bytes() == VALUE
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert files.descriptors == ()
        files.remove()

    def test_afterwards_nothing_is_left_and_removing_twice_is_no_error(self, folder: Path) -> None:
        files = write_in_folder(str(folder), {"A": b"1", "B": b"2"})
        files.remove()
        files.remove()
        assert list(folder.iterdir()) == []
        assert files.paths == {}

    def test_what_the_agent_removed_first_is_no_error(self, folder: Path) -> None:
        files = write_in_folder(str(folder), {"A": b"1"})
        (folder / "A").unlink()
        files.remove()

    @pytest.mark.parametrize("kind", ["file", "link", "dangling"])
    def test_what_is_there_already_is_never_written_through(
        self, folder: Path, tmp_path: Path, kind: str
    ) -> None:
        target = tmp_path / "target"
        if kind != "dangling":
            target.write_text("theirs")
        if kind == "file":
            (folder / "B").write_text("theirs")
        else:
            (folder / "B").symlink_to(target)
        with pytest.raises(UnavailableError, match="the file of a value cannot be written"):
            write_in_folder(str(folder), {"A": b"1", "B": b"2"})
        assert not (folder / "A").exists()  # all or nothing
        assert kind == "dangling" or target.read_text() == "theirs"
        assert kind != "dangling" or not target.exists()

    def test_a_folder_that_others_may_enter_is_refused(self, folder: Path) -> None:
        folder.chmod(0o750)
        with pytest.raises(InvalidError, match="not ours alone"):
            write_in_folder(str(folder), {"A": b"1"})
        assert list(folder.iterdir()) == []

    def test_a_folder_behind_a_link_is_refused(self, folder: Path, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(folder)
        with pytest.raises(UnavailableError, match="cannot be opened"):
            write_in_folder(str(link), {"A": b"1"})

    def test_a_folder_that_is_gone_is_an_error_of_ours(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="no such file"):
            write_in_folder(str(tmp_path / "gone"), {"A": b"1"})


class TestMemory:
    def test_a_child_reads_it_by_its_path_as_often_as_it_likes(self) -> None:
        files = write_in_memory({"KEY": VALUE})
        path = os.fsdecode(files.paths["KEY"])
        code = "import sys; [sys.stdout.buffer.write(open(sys.argv[1], 'rb').read()) for _ in '12']"
        done = subprocess.run(
            [sys.executable, "-c", code, path],
            pass_fds=files.descriptors,
            capture_output=True,
            check=True,
        )
        assert done.stdout == VALUE * 2
        files.remove()

    def test_it_cannot_be_changed_any_more(self) -> None:
        files = write_in_memory({"KEY": b"value"})
        (descriptor,) = files.descriptors
        for change in (
            lambda: os.pwrite(descriptor, b"x", 0),
            lambda: os.ftruncate(descriptor, 0),
            lambda: os.ftruncate(descriptor, 100),
            lambda: fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
        ):
            with pytest.raises(OSError) as caught:
                change()
            assert caught.value.errno == errno.EPERM
        files.remove()

    def test_no_other_user_could_open_it(self) -> None:
        files = write_in_memory({"KEY": b"value"})
        known = os.fstat(files.descriptors[0])
        assert stat.S_IMODE(known.st_mode) == 0o400
        files.remove()

    def test_its_descriptor_is_out_of_the_way_and_closes_on_exec(self) -> None:
        files = write_in_memory({"A": b"1", "B": b"2"})
        assert all(number >= FIRST_DESCRIPTOR for number in files.descriptors)
        assert not any(os.get_inheritable(number) for number in files.descriptors)
        numbers = files.descriptors
        files.remove()
        for number in numbers:
            with pytest.raises(OSError) as caught:
                os.fstat(number)
            assert caught.value.errno == errno.EBADF

    def test_ssh_takes_it_for_a_private_key(self, tmp_path: Path) -> None:
        """Its permissions are what ssh-keygen asks for."""
        from support.real import need

        keygen = need("ssh-keygen")
        made = tmp_path / "key"
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", made], check=True)
        files = write_in_memory({"KEY": made.read_bytes()})
        done = subprocess.run(
            [keygen, "-y", "-f", os.fsdecode(files.paths["KEY"])],
            pass_fds=files.descriptors,
            capture_output=True,
            check=False,
        )
        files.remove()
        assert done.stdout.startswith(b"ssh-ed25519 "), done.stderr
