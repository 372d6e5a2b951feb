"""A small parent for a server: when the program that wanted the server is gone, so is the server.

``python -m modpo_hpc.generation.guard COMMAND ...`` starts COMMAND in a session of its own and waits. It ends the
command, and every process that the command left anywhere, when its standard input is closed (which the kernel does
even if the other end was killed with SIGKILL), when it is sent SIGTERM, and when the command itself ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import psutil

GRACE_SECONDS = float(os.environ.get("MODPO_SERVER_GRACE", "10"))
_SET_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36


def main(command: list[str]) -> int:
    """Run ``command`` until it ends or is no longer wanted; returns its exit code."""
    _prctl(_SET_CHILD_SUBREAPER, 1)
    unwanted = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: unwanted.set())
    try:
        child = subprocess.Popen(
            command,
            env=_environment_of(command[0]),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL),
        )
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        return 127
    threading.Thread(target=_wait_for_end_of_input, args=(unwanted,), daemon=True).start()
    while child.poll() is None and not unwanted.wait(0.1):
        pass
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
    _end_descendants()
    return child.wait()


def _environment_of(program: str) -> dict[str, str]:
    """The variables of ``program``: one from an environment of its own finds its own packages, and none of ours."""
    folder, variables = os.path.dirname(program), dict(os.environ)
    if folder and folder == os.environ.get("MODPO_SERVER_PATH"):
        variables["PATH"] = os.pathsep.join([folder, variables.get("PATH", os.defpath)])
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            variables.pop(name, None)
    return variables


def _wait_for_end_of_input(unwanted: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    unwanted.set()


def _end_descendants() -> None:
    """Kill what is left below this process; being a subreaper it sees orphans of any depth."""
    deadline = time.monotonic() + 10
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
