"""Hides from Python what only some systems have. A test copies this file as `sitecustomize.py` into the path of a process.

Python imports it before anything else. `sys.platform` stays, because libraries choose their own code by it.
"""

import asyncio
import builtins
import importlib
import os
import select
import signal
import socket
import subprocess  # noqa: F401 - the standard library keeps what it needs itself
import sys
from typing import Any

MODULES = {"fcntl", "grp", "pwd", "resource", "termios", "tty"}
NAMES: dict[Any, tuple[str, ...]] = {
    os: (
        *("fork", "geteuid", "getuid", "memfd_create", "mkfifo", "pread", "preadv", "pwrite", "pwritev", "sched_getaffinity", "setsid"),
        *("O_NOFOLLOW", "O_NONBLOCK"),
    ),
    select: ("epoll", "EPOLLEXCLUSIVE"),
    signal: ("SIGHUP", "SIGPROF", "SIGXCPU", "ITIMER_PROF", "setitimer", "pthread_sigmask"),
    socket: ("SOCK_SEQPACKET", "recv_fds", "send_fds"),
}
OWN = "posewire"

if os.environ.get("HIDE_FROM_POSEWIRE"):
    importlib.import_module("asyncio.unix_events")
    _import = builtins.__import__
    _import_module = importlib.import_module

    def _hide(name: str, importer: str) -> None:
        """Raise as if the module were not there, for Posewire and not for libraries that choose by the platform."""
        if importer.partition(".")[0] == OWN and name.partition(".")[0] in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def hiding_import(name: str, globals: Any = None, *rest: Any, **more: Any) -> Any:  # noqa: A002 - the builtin's name
        _hide(name, str((globals or {}).get("__name__", "")))
        return _import(name, globals, *rest, **more)

    def hiding_import_module(name: str, package: str | None = None) -> Any:
        _hide(name, str(sys._getframe(1).f_globals.get("__name__", "")))
        return _import_module(name, package)

    builtins.__import__ = hiding_import
    importlib.import_module = hiding_import_module
    for module, names in NAMES.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)

    def no_handler(*_: object) -> None:
        raise NotImplementedError

    asyncio.SelectorEventLoop.add_signal_handler = no_handler  # type: ignore[method-assign]
    asyncio.SelectorEventLoop.remove_signal_handler = no_handler  # type: ignore[method-assign, assignment]
