"""Waiting for states. Nothing else in the tests knows how long anything takes."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 1800.0  # seconds: many times what anything takes on a crowded machine, so that only a hang ends it
TRIES = 5  # how often a kill may come too late
LOOKS = 10  # after how many questions it is asked whether the state can come at all, which is dear
SURE = 3  # how often in a row the answer must be no
T = TypeVar("T")


def wait_until(
    state: Callable[[], T],
    told: Callable[[], object] = lambda: "",
    pause: float = 0.05,
    in_vain: Callable[[], str] = lambda: "",
) -> T:
    """Ask for ``state`` until it is true, and give it back.

    told: what a failure says about the moment when patience ended. pause: seconds between two questions, longer where
    one is dear; no result may depend on it. in_vain: why the state cannot come any more; empty while it can.
    """
    end = time.monotonic() + PATIENCE
    looks, hopeless = 0, 0
    while not (found := state()):
        assert time.monotonic() < end, f"waited {PATIENCE:.0f} s in vain. {told()}"
        looks += 1
        if looks % LOOKS == 0:
            hopeless = hopeless + 1 if (why := in_vain()) else 0
            assert hopeless < SURE, f"waits in vain. {why}"
        time.sleep(pause)
    return found


def killed_when(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> bool:
    """Kill a process as soon as it has ``reached`` something. False if it ended by itself before the kill struck:
    the machine was busy elsewhere in the meantime, and the test begins anew.
    """
    while process.poll() is None and not reached():
        time.sleep(0.002)
    process.kill()
    return process.wait(PATIENCE) == -signal.SIGKILL
