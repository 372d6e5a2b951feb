"""What the benchmarks share: a clock of the processor, the machine, rows of tables, and the last line."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from typing import Any

CORES = f"{platform.machine()}, {os.cpu_count()} cores"
SYSTEM = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"


def cpu_seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """CPU time of this process during ``action``, and its result."""
    start = time.process_time()
    result = action()
    return time.process_time() - start, result


def machine() -> dict[str, Any]:
    """What this runs on, for what rests on torch."""
    import torch

    found: dict[str, Any] = {"cores": os.cpu_count(), "platform": platform.machine(), "torch": torch.__version__}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(0)
    return found


def table_row(cells: Iterable[object]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def table_head(*names: str) -> list[str]:
    """The first two lines of a Markdown table."""
    return [table_row(names), table_row(["---"] * len(names))]


def tell(name: str, **figures: object) -> None:
    """The last line of a benchmark: one JSON object."""
    print(json.dumps({"name": name, **figures}))
