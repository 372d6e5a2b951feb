"""Reference log-probs, computed once and kept in the run: shared by every method, weight, trial and attempt.

The key is content: the weights of the reference model, its precision, and the token ids of a prompt and its responses
(and so the template and the texts). Learning rate, rank, seed and output folder are not in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from modpo_hpc.alignment.engine import TrainingEngine
from modpo_hpc.alignment.trees import Tree, pack
from modpo_hpc.core.atomic import write_text
from modpo_hpc.core.markers import describe_output
from modpo_hpc.errors import ModpoError
from modpo_hpc.training import Watch

_CHUNK = 32
_METHOD = "sum of fp32 log-softmax over response and EOS, one tree a pass, 1"

LogProbs = tuple[float, ...]


def tree_key(tree: Tree) -> str:
    """Hash of the token ids of ``tree``."""
    return hashlib.sha256(json.dumps([tree.prompt, tree.responses]).encode()).hexdigest()


def model_key(model_folder: str | Path, precision: str, memory: Path) -> str:
    """Hash of the bytes of the model's configuration and weights, and of the precision they are used in.

    Hashes of large files are remembered in the folder ``memory`` by path, size and time of change.
    """
    folder = Path(model_folder)
    files = sorted(
        one for one in folder.iterdir() if one.suffix in (".safetensors", ".bin") or one.name == "config.json"
    )
    total = hashlib.sha256(f"{_METHOD}\x1f{precision}".encode())
    for file in files:
        total.update(f"\x1f{file.name}={_file_hash(file, memory)}".encode())
    return total.hexdigest()[:24]


class ReferenceCache:
    """The log-probs that one reference model gives to trees, in small files that are never changed.

    Any number of processes may read and write at once: each file holds a chunk of trees, is named after them and
    appears whole. Who computes a chunk holds an advisory lock on it, so that others do something else meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, LogProbs] = {}
        self._read: set[str] = set()

    def missing(self, trees: Sequence[Tree]) -> list[Tree]:
        """Those of ``trees`` that no file holds yet."""
        self._refresh()
        return [tree for tree in trees if tree_key(tree) not in self._known]

    def fill(
        self, trees: Sequence[Tree], compute: Callable[[Tree], LogProbs], on_progress: Callable[[int, int], None]
    ) -> None:
        """Compute what is missing, together with whatever other processes do so now.

        ``on_progress`` is called with (chunks done, chunks in all); it may raise, finished chunks stay.
        """
        wanted = self.missing(trees)
        chunks = [wanted[start : start + _CHUNK] for start in range(0, len(wanted), _CHUNK)]
        left = list(range(len(chunks)))
        for wait in (False, True):
            for number in tuple(left):
                with self._claim(chunks[number], wait) as mine:
                    if not mine:
                        continue
                    if self.missing(chunks[number]):
                        self.add(chunks[number], [compute(tree) for tree in chunks[number]])
                left.remove(number)
                on_progress(len(chunks) - len(left), len(chunks))

    def add(self, trees: Sequence[Tree], values: Sequence[LogProbs]) -> None:
        """Store the log-probs of ``trees`` as one file."""
        found = {tree_key(tree): list(value) for tree, value in zip(trees, values, strict=True)}
        write_text(self.folder / f"{_chunk_name(trees)}.json", json.dumps(found))
        self._refresh()

    def __getitem__(self, tree: Tree) -> LogProbs:
        return self._known[tree_key(tree)]

    def _refresh(self) -> None:
        for file in self.folder.glob("*.json") if self.folder.is_dir() else ():
            if file.name not in self._read:
                stored = json.loads(file.read_bytes())
                self._known.update((key, tuple(value)) for key, value in stored.items())
                self._read.add(file.name)

    @contextmanager
    def _claim(self, trees: Sequence[Tree], wait: bool) -> Iterator[bool]:
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with open(locks / _chunk_name(trees), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True


def fill_reference(engine: TrainingEngine, cache: ReferenceCache, trees: Sequence[Tree], watch: Watch) -> None:
    """Have ``engine`` score what ``cache`` lacks of ``trees``, while its adapter is fresh and changes nothing.

    A tree is scored alone, so its log-probs do not depend on its neighbours: on a CPU they are the same to the last
    bit, whoever computes them.
    """

    def said(done: int, total: int) -> None:
        watch.progress(done, total, "chunks of reference log-probs")
        watch.check()

    def compute(tree: Tree) -> LogProbs:
        return tuple(engine.logps(pack([tree], engine.device)).tolist())

    engine.train(False)
    with torch.no_grad():
        if engine.layout.processes == 1:
            cache.fill(trees, compute, said)
        else:
            _fill_together(engine, cache, trees, compute)


def _fill_together(
    engine: TrainingEngine, cache: ReferenceCache, trees: Sequence[Tree], compute: Callable[[Tree], LogProbs]
) -> None:
    """Every process scores its share, all in step: with weights spread over them, each pass needs them all."""
    missing = engine.share(cache.missing(trees))
    mine = missing[engine.rank :: engine.layout.processes]
    passes = -(-len(missing) // engine.layout.processes)
    values = [compute(mine[turn] if turn < len(mine) else missing[0]) for turn in range(passes)]
    if mine:
        cache.add(mine, values[: len(mine)])
    engine.total(torch.zeros(1, device=engine.device))
    if cache.missing(trees):
        raise ModpoError(f"{cache.folder}: the reference log-probs that another process wrote are not to be seen here")


def _chunk_name(trees: Sequence[Tree]) -> str:
    return hashlib.sha256("".join(tree_key(tree) for tree in trees).encode()).hexdigest()[:32]


def _file_hash(file: Path, memory: Path) -> str:
    resolved, state = file.resolve(), file.stat()
    if state.st_size < 1 << 26:
        return describe_output(file).sha256
    known_by = hashlib.sha256(f"{resolved}|{state.st_size}|{state.st_mtime_ns}".encode()).hexdigest()[:32]
    note = memory / f"{known_by}.sha256"
    if not note.exists():
        write_text(note, describe_output(file).sha256)
    return note.read_text()
