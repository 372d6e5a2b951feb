"""The report as one HTML page that needs nothing beside itself."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from modpo_hpc.report import glossary
from modpo_hpc.report.formats import numbers_in
from modpo_hpc.report.parts import ReportSection


def template(name: str) -> Template:
    """A template of a page."""
    environment = Environment(
        loader=PackageLoader("modpo_hpc.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"explained": glossary.explained, "anchor_of": glossary.anchor_of, "numbers_in": numbers_in}
    return environment.get_template(name)


def render(title: str, sections: Sequence[ReportSection], svgs: Mapping[str, bytes], mark: str | None) -> str:
    """The page as HTML. ``svgs`` holds the bytes of every picture of the sections; ``mark`` stays in view."""
    pictures = {name: "data:image/svg+xml;base64," + base64.b64encode(svg).decode() for name, svg in svgs.items()}
    page = template("report.html.j2")
    return page.render(title=title, mark=mark, sections=sections, pictures=pictures, terms=glossary.TERMS)
