"""Several processes that serve one port: forked before anything runs, started anew when they die, ended together."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable

from envs.errors import BackendUnavailable, EnvloopError

__all__ = ["run_processes"]

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_PAUSE_S = 1.0  # no process is started sooner after the last in its place


def run_processes(count: int, work: Callable[[int], None], *, stop_on_eof: bool = False) -> None:
    """Run ``work(number)`` in ``count`` processes until SIGINT or SIGTERM, or until one of them returns.

    One that is killed is started anew; one that ends with an error ends all, for another would do the same. Must be
    called where no other thread runs. Raises BackendUnavailable where one has ended with an error.
    """
    children: dict[int, tuple[int, float]] = {}
    stopping = False

    def stop(number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True
        for pid in children:
            os.kill(pid, number)

    wake_read, wake_write = socket.socketpair()
    wake_write.setblocking(False)
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in handled}
    signal.set_wakeup_fd(wake_write.fileno())

    def restore() -> None:
        signal.set_wakeup_fd(-1)
        for which, handler in before.items():
            signal.signal(which, handler)
        wake_read.close()
        wake_write.close()

    def start(number: int) -> None:
        # A signal in between would miss the new process, or be taken by it for its parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, handled)
        pid = os.fork()
        if pid:
            children[pid] = (number, time.monotonic())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
            return
        status = 1
        try:
            restore()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
            _end_with_parent()
            work(number)
            status = 0
        except EnvloopError as error:
            logger.error("server process %d: %s", number, error)
        except BaseException:
            logger.exception("server process %d failed", number)
        finally:
            logging.shutdown()
            os._exit(status)  # what the parent would do at its end is not this process's to do

    failed = 0
    try:
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in range(count):
            start(number)
        with selectors.DefaultSelector() as selector:
            selector.register(wake_read, selectors.EVENT_READ)
            if stop_on_eof:
                selector.register(0, selectors.EVENT_READ)
            while children:
                for key, _ in selector.select(_POLL_S):
                    if key.fileobj == 0:
                        if not os.read(0, 4096):
                            selector.unregister(0)
                            stop(signal.SIGTERM, None)
                    else:
                        wake_read.recv(4096)
                for number, status, lived in _ended(children):
                    if stopping:
                        continue
                    if status >= 0:
                        failed = failed or status
                        stop(signal.SIGTERM, None)
                        continue
                    time.sleep(max(0.0, _PAUSE_S - lived))
                    if not stopping:  # a signal may have come in that time
                        logger.warning("server process %d ended with status %d; it is started anew", number, status)
                        start(number)
    finally:
        restore()
    if failed:
        raise BackendUnavailable("a server process has failed", hint="its message stands above")


def _ended(children: dict[int, tuple[int, float]]) -> list[tuple[int, int, float]]:
    """Number, status and seconds of life of every child that has ended since."""
    found = []
    for pid in list(children):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            number, began = children.pop(pid)
            found.append((number, os.waitstatus_to_exitcode(status), time.monotonic() - began))
    return found


def _end_with_parent() -> None:
    """On Linux: end in an orderly way when the parent dies, however it does."""
    import ctypes
    import sys

    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
