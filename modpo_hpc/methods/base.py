"""The base model as it is."""

from __future__ import annotations

from typing import ClassVar, Literal

from modpo_hpc.methods.method import Method


class Base(Method):
    """The model that every policy starts from, without an adapter."""

    label: ClassVar[str] = "the base model as it is"
    is_baseline: ClassVar[bool] = True

    method: Literal["base"] = "base"
