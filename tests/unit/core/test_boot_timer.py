"""The timer fires on CLOCK_BOOTTIME, at once for what has passed, and again as often as asked."""

import errno
import os
import time
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from secret_agent.boot_timer import BootTimer
from secret_agent.clock import Clock
from secret_agent_client.errors import UnavailableError

SOON_S = 10.0  # nothing here takes a tenth of that


@pytest.fixture
def timer() -> Iterator[BootTimer]:
    made = BootTimer()
    yield made
    made.close()


@pytest.mark.parametrize("ahead_s", [0.03, 0.0, -5.0, -1e9])
async def test_it_returns_once_the_time_has_come(timer: BootTimer, ahead_s: float) -> None:
    at = Clock().boot() + ahead_s
    with trio.fail_after(SOON_S):
        await timer.wait_until(at)
    assert Clock().boot() >= at


async def test_boot_zero_is_past_and_does_not_disarm_it(timer: BootTimer) -> None:
    with trio.fail_after(SOON_S):
        await timer.wait_until(0.0)


async def test_a_wait_that_was_given_up_leaves_the_next_one_right(timer: BootTimer) -> None:
    """Also where it was given up just as the timer fired."""
    now = Clock().boot()
    with trio.move_on_after(0.001) as given_up:
        await timer.wait_until(now + 60)
    assert given_up.cancelled_caught
    with trio.CancelScope() as fired:
        fired.cancel()
        await timer.wait_until(now)
    at = Clock().boot() + 0.03
    with trio.fail_after(SOON_S):
        await timer.wait_until(at)
    assert Clock().boot() >= at


async def test_it_sleeps_by_the_kernel_and_not_by_trio_s_clock() -> None:
    """trio's clock stands still while the machine is suspended."""
    timer = BootTimer()
    at = Clock().boot() + 0.05
    begin = time.monotonic()
    await timer.wait_until(at)
    assert time.monotonic() - begin >= 0.04
    with open(f"/proc/self/fdinfo/{timer._fd}", encoding="ascii") as info:  # noqa: PTH123, ASYNC230  # a file of the kernel
        assert f"clockid: {time.CLOCK_BOOTTIME}\n" in info.read()
    timer.close()


def test_it_is_closed_in_children() -> None:
    timer = BootTimer()
    assert not os.get_inheritable(timer._fd)
    timer.close()
    with pytest.raises(OSError) as caught:
        os.fstat(timer._fd)
    assert caught.value.errno == errno.EBADF


def test_without_descriptors_the_error_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    _soft, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(UnavailableError, match="no timer on the boot clock: Too many open"):
            BootTimer()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
