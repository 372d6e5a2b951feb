"""A model behind an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from modpo_hpc.methods.method import Method

if TYPE_CHECKING:
    from modpo_hpc.study import Study


class Remote(Method):
    """A model that answers elsewhere, at the endpoint of its name in ``generation.remote``."""

    label: ClassVar[str] = "a model behind an endpoint"
    is_remote: ClassVar[bool] = True

    method: Literal["remote"] = "remote"

    def check(self, name: str, study: Study) -> None:
        if name not in study.generation.remote:
            raise ValueError(f"policy {name} is remote, but generation.remote has no endpoint of that name")
