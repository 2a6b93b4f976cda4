"""What a process used, exactly: the kernel's own clock of its processor time."""

from __future__ import annotations

import time

import psutil

_SCHEDULED = 2
"""CPUCLOCK_SCHED of Linux: all threads, ended ones too, in nanoseconds. /proc has hundredths of a
second, too coarse for what one event costs."""


def cpu_seconds(process: psutil.Process) -> float:
    """Processor time, user and system. Raises OSError if the process has ended."""
    return time.clock_gettime((~process.pid << 3) | _SCHEDULED)


def resident_mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6
