"""Section of the study on judgments by people: what raters are asked, and how their answers become one label."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modpo_hpc.section import Section


class Human(Section):
    """What the raters' pages say, and how a question gets its label from several raters."""

    title: str = Field("Which response is better?", min_length=1, description="heading of the pages")
    material: str = Field(
        "messages", min_length=1, description="what raters read: 'You will read ..., each with two responses'"
    )
    notice: str = Field("", description="what raters are warned of before they begin; empty for no warning")
    criteria: tuple[str, ...] = Field(
        (), description="criteria on the pages; those that personas rank by and those of the phase if empty"
    )
    label: Literal["majority", "absolute", "plurality"] = Field(
        "majority",
        description="label of a question: A where more raters said A than B, whatever the ties (the paper's); what "
        "more than half of the raters said; what was said most often",
    )
