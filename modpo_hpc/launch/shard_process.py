"""The process of one shard of the local executor, and what is imported before it is forked."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path

from modpo_hpc.errors import ModpoError
from modpo_hpc.launch.attempts import recorded
from modpo_hpc.launch.entry import run_shard

_EVERY_SHARD = ("pandas", "modpo_hpc.launch.shard_process")
_SHARDS_WITH_MODELS = ("torch", "transformers", "peft", "modpo_hpc.launch.preloaded")


def preloaded(with_models: bool) -> tuple[str, ...]:
    """The modules that shards are forked from, those of the models too where a stage ``with_models`` is to come."""
    return _EVERY_SHARD + (_SHARDS_WITH_MODELS if with_models else ())


def main(
    run_dir: str, stage: str, shard: str, log: str, attempt: int, again: bool, environment: dict[str, str]
) -> None:
    """A shard's process: its output to its log, its life bound to the executor's, its environment that of now."""
    os.environ.clear()  # the fork server's is that of the first executor of this process
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_the_executor, daemon=True).start()
    try:
        with recorded(Path(log), stage, shard, attempt):
            run_shard(run_dir, stage, shard, again)
    except ModpoError as error:
        print(f"error: {error}", flush=True)
        sys.exit(error.exit_code)
    except Exception:  # its traceback is in the log by now
        sys.exit(1)


def _die_with_the_executor() -> None:
    executor = multiprocessing.parent_process()
    assert executor is not None
    executor.join()
    os.kill(os.getpid(), signal.SIGKILL)
