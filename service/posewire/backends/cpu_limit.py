"""How many cores this process may really use.

ONNX Runtime sizes its thread pools by the machine and ignores a container's CPU quota (microsoft/onnxruntime #29510):
on a large node it starts a thread for each core and the kernel throttles them all.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# Where a container sees its own group when /proc names none, or one that lies outside its mounts.
_MOUNT_ROOTS = (("", "/"), ("cpu", "/"), ("cpu,cpuacct", "/"))


def cpu_limit(root: Path = Path("/"), affinity: int | None = None) -> int:
    """The number of whole cores for this process: the lesser of its CPU affinity and its cgroup quota, rounded up.

    Args:
        root: of the file system with /proc and /sys.
        affinity: cores that the process may be scheduled on; None: ask the system.

    Returns:
        At least 1. A missing or odd file is no limit.
    """
    cores = _affinity() if affinity is None else affinity
    return max(1, min([cores, *_quotas(root)]))


def _affinity() -> int:
    """Cores that the scheduler may put this process on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[int]:
    """Every quota on the way from the process's own groups to their roots, in cores rounded up."""
    mounts = root / "sys/fs/cgroup"
    for controllers, path in (*_own_groups(root), *_MOUNT_ROOTS):
        for mount in (mounts / controllers, mounts / "cpu" if controllers else mounts / "unified"):
            for group in _upwards(mount, path):
                quota = _quota_v1(group) if controllers else _quota_v2(group)
                if quota is not None:
                    yield quota


def _own_groups(root: Path) -> list[tuple[str, str]]:
    """The process's groups that may hold a CPU quota: the controllers' names ("" in version 2) and the path."""
    lines = (_read(root / "proc/self/cgroup") or "").splitlines()
    parts = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    return [(controllers, path) for _, controllers, path in parts if not controllers or "cpu" in controllers.split(",")]


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """A group's folder and all above it, up to the mount's own."""
    names = PurePosixPath(path).parts[1:]
    if ".." in names:  # a group beside the container's own, seen from within its namespace: not under the mount
        names = ()
    for length in range(len(names), -1, -1):
        yield mount.joinpath(*names[:length])


def _quota_v2(group: Path) -> int | None:
    """`cpu.max` holds "QUOTA PERIOD" in microseconds, or "max PERIOD"."""
    fields = (_read(group / "cpu.max") or "").split()
    return _cores(*fields) if len(fields) == 2 else None


def _quota_v1(group: Path) -> int | None:
    """Two files of microseconds; a quota of -1 is none."""
    quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    return None if quota is None or period is None else _cores(quota, period)


def _cores(quota: str, period: str) -> int | None:
    try:
        microseconds, each = int(quota), int(period)
    except ValueError:
        return None
    return -(-microseconds // each) if microseconds > 0 and each > 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
