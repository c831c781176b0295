"""Wait until a boot time: timerfd_create(2) on CLOCK_BOOTTIME, which Python 3.11 does not wrap.

trio sleeps on CLOCK_MONOTONIC, which stands still during suspend; a timer that slept with the
machine would end a lease hours
late.  This one fires as soon as the machine wakes.
"""

import ctypes
import os

import trio

from secret_agent_client.errors import UnavailableError

_CLOCK_BOOTTIME = 7  # <linux/time.h>
_TFD_TIMER_ABSTIME = 1
_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC are these by definition
_NS = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class BootTimer:
    """One timer; one task waits on it at a time."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_BOOTTIME, _TFD_FLAGS)
        if self._fd < 0:
            reason = os.strerror(ctypes.get_errno())
            raise UnavailableError(f"no timer on the boot clock: {reason}")

    async def wait_until(self, boot_s: float) -> None:
        """Return once CLOCK_BOOTTIME has reached `boot_s`; at once where it has."""
        at_ns = max(1, int(boot_s * _NS))  # zero would disarm the timer
        spec = _Itimerspec(_Timespec(0, 0), _Timespec(at_ns // _NS, at_ns % _NS))
        result = self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
        assert result == 0, os.strerror(ctypes.get_errno())  # noqa: S101  # only bad arguments fail
        await trio.lowlevel.wait_readable(self._fd)
        os.read(self._fd, 8)

    def close(self) -> None:
        os.close(self._fd)
