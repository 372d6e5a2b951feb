"""What this machine gives to servers: the GPUs of the job, and free ports."""

from __future__ import annotations

import os
import socket

from modpo_hpc.device import visible_gpus
from modpo_hpc.errors import InputError

HOST = "127.0.0.1"


def devices_of_job(gpus_per_server: int = 1) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES for one server per ``gpus_per_server`` GPUs of this job; ``[None]`` without GPUs.

    Raises:
        InputError: the job has fewer GPUs than one server takes.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        visible = ",".join(str(one) for one in range(visible_gpus()))
    gpus = [one for one in visible.split(",") if one.strip() and one.strip() != "-1"]
    if not gpus:
        return [None]
    if len(gpus) < gpus_per_server:
        raise InputError(
            f"a server takes {gpus_per_server} GPUs and this job has {len(gpus)}",
            field="gpus_per_server",
            value=gpus_per_server,
            remedy="Ask for more GPUs in resources, or set it lower.",
        )
    return [
        ",".join(gpus[start : start + gpus_per_server])
        for start in range(0, len(gpus) - gpus_per_server + 1, gpus_per_server)
    ]


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return listener.getsockname()[1]


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` now."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
        return True
