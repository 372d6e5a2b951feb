"""One server process: started under a guard, with a log, and ended with all that it has started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from modpo_hpc.generation.machine import HOST, free_port, is_free

SERVER_PATH = "MODPO_SERVER_PATH"
"""Variable with the folder of the servers' programs: an environment of their own, which wants other versions."""
_SOURCE = Path(__file__).resolve().parents[2]
_SECONDS_TO_END = 30


class ServerProcess:
    """One server process and what is known of its health. ``Servers`` moves it; others read it."""

    def __init__(self, number: int, devices: str | None, log_path: Path) -> None:
        self.number, self.devices, self.log_path = number, devices, log_path
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.state = "new"
        self.restarts = 0
        self.in_use = 0
        self.strikes = 0
        self.next_probe = 0.0
        self.give_up_at = 0.0

    @property
    def url(self) -> str:
        """Base URL of the OpenAI-compatible interface."""
        return f"http://{HOST}:{self.port}/v1"

    def last_words(self, lines: int = 15) -> str:
        """The end of the server's log."""
        with suppress(OSError):
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"

    def found_its_port_taken(self) -> bool:
        """Whether the log says that something else listens on the port."""
        return "address already in use" in self.last_words().lower()

    def launch(self, command: Sequence[str]) -> None:
        """Start ``command`` on a free port, the last one if it is free."""
        self.port = self.port if self.port and is_free(self.port) else free_port()
        filled = [part.replace("{port}", str(self.port)).replace("{host}", HOST) for part in command]
        variables = dict(os.environ)
        variables["PYTHONPATH"] = os.pathsep.join([str(_SOURCE), *filter(None, [variables.get("PYTHONPATH")])])
        if self.devices is not None:
            variables["CUDA_VISIBLE_DEVICES"] = self.devices
        with open(self.log_path, "ab") as stream:
            stream.write(f"== {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(filled)}\n".encode())
            stream.flush()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "modpo_hpc.generation.guard", *filled],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env=variables,
                start_new_session=True,
            )
        self.strikes, self.next_probe = 0, 0.0

    def ask_to_end(self) -> None:
        """Tell the guard, which ends the server and whatever that has started; do not wait."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()

    def end(self) -> None:
        """Tell the guard and wait until it is gone."""
        self.ask_to_end()
        if self.process is None:
            return
        try:
            self.process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
