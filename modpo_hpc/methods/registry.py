"""The methods that a study can name: the package's, those of installed packages, and files that the study names."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType

from modpo_hpc.methods.base import Base
from modpo_hpc.methods.conditioned import AtWeights, Conditioned
from modpo_hpc.methods.corrector import Corrected, Corrector
from modpo_hpc.methods.dpo import DPO
from modpo_hpc.methods.group_robust import GroupRobustDPO
from modpo_hpc.methods.ham import HaM, Member
from modpo_hpc.methods.joint_dpo import JointDPO
from modpo_hpc.methods.listwise import ListwiseDPO
from modpo_hpc.methods.method import Method
from modpo_hpc.methods.mod import MOD
from modpo_hpc.methods.modpo import MODPO
from modpo_hpc.methods.raco import RACO
from modpo_hpc.methods.remote import Remote
from modpo_hpc.methods.rerank import Rerank
from modpo_hpc.methods.safe_dpo import SafeDPO
from modpo_hpc.methods.sft import SFT
from modpo_hpc.methods.soup import Soup

ENTRY_POINTS = "modpo_hpc.methods"


def name_of(method: type[Method]) -> str:
    """The word by which a study names ``method``: the default of its field ``method``."""
    return str(method.model_fields["method"].default)


_TRAINED = (SFT, DPO, MODPO, JointDPO, Conditioned, ListwiseDPO, SafeDPO, GroupRobustDPO, RACO, HaM, Corrector)
_UNTRAINED = (Soup, AtWeights, Member, MOD, Rerank, Corrected, Remote)
METHODS: Mapping[str, type[Method]] = MappingProxyType({name_of(one): one for one in (Base, *_TRAINED, *_UNTRAINED)})
"""The package's own methods, by name."""


def known_methods(files: Sequence[Path] = ()) -> dict[str, type[Method]]:
    """All methods by name: the package's, those that installed packages bring as entry points, those in ``files``.

    Raises:
        ValueError: a file holds no method, or one of a name that is taken.
    """
    found = dict(METHODS)
    for source, method in _from_outside(files):
        name = name_of(method)
        if name in found:
            raise ValueError(f"{source} brings a method {name!r}, and there is one of that name; give it another")
        found[name] = method
    return found


def _from_outside(files: Sequence[Path]) -> Iterator[tuple[object, type[Method]]]:
    for file in files:
        if not file.is_file():
            raise ValueError(f"there is no file {file} with a method")
        for method in _loaded(file, hashlib.sha256(file.read_bytes()).hexdigest()):
            yield file, method
    for point in entry_points(group=ENTRY_POINTS):
        yield point.value, point.load()


@cache
def _loaded(file: Path, sha256: str) -> list[type[Method]]:
    """The methods in ``file``: loaded once for each content, so that a class stays the same in one process."""
    module_name = f"modpo_hpc_method_{sha256[:16]}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # pydantic looks up the names in annotations there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a file from outside the package may fail in any way; the study names it
        del sys.modules[module_name]
        raise ValueError(f"{file} cannot be loaded: {type(error).__name__}: {error}") from error
    found = [
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Method) and one.__module__ == module_name
    ]
    for one in found:
        if inspect.isabstract(one) or not hasattr(one, "label") or one.model_fields["method"].is_required():
            raise ValueError(f"{file}: {one.__name__} lacks a default of its field method, a label or a loss")
    if not found:
        raise ValueError(f"{file} has no class that is a modpo_hpc.methods.Method")
    return found
