"""What one process keeps for the shards that it makes one after the other: models, tokens, servers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar, cast

T = TypeVar("T")
_kept: dict[Hashable, Any] = {}
_open = ExitStack()
_shards: tuple[str, ...] | None = None


def keep_resident(shards: Sequence[str] = ()) -> None:
    """From now on this process, which makes ``shards``, keeps what :func:`kept` and :func:`kept_open` make."""
    global _shards
    _shards = tuple(shards)


def resident_shards() -> tuple[str, ...] | None:
    """The shards for which this process keeps things; None where it keeps nothing."""
    return _shards


def kept(key: Hashable, make: Callable[[], T], sound: Callable[[T], bool] = lambda _: True) -> T:
    """What ``make`` gives; where this process keeps, what it gave for ``key`` before, while that is ``sound``."""
    if _shards is None:
        return make()
    if key not in _kept or not sound(_kept[key]):
        _kept[key] = make()
    return cast(T, _kept[key])


def kept_open(key: Hashable, enter: Callable[[], AbstractContextManager[T]]) -> T:
    """What the block of ``enter`` gives, which stays open until :func:`let_go`; for a process that keeps."""
    return kept(key, lambda: _open.enter_context(enter()))


def let_go() -> None:
    """Close what is open, and keep nothing more."""
    global _shards
    _shards = None
    _kept.clear()
    _open.close()
