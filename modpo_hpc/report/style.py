"""How figures look, and how they become files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from modpo_hpc.evaluation.tables import Rows
from modpo_hpc.report.formats import title

# Okabe and Ito's palette: told apart with every common form of colour blindness; markers tell apart without colour
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")
LINES = ("-", "--", "-.", ":")
FORMATS = ("svg", "pdf", "png")
DOTS_PER_INCH = 180
# without hinting a text is as wide in every format as where the figure was laid out, so that none is cut off
STYLE: dict[Any, Any] = {
    "figure.dpi": DOTS_PER_INCH,
    "text.hinting": "no_hinting",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "modpo-hpc",
    "pdf.fonttype": 42,
}


def settle(figure: Figure) -> None:
    """Lay ``figure`` out once for all of its files."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def render(figure: Figure, form: str) -> bytes:
    """The bytes of ``figure`` as svg, pdf or png; the same figure gives the same bytes."""
    stream = io.BytesIO()
    # the canvases themselves, because savefig draws everything once more before it prints
    with rc_context(STYLE):
        if form == "svg":
            FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})
        elif form == "pdf":
            FigureCanvasPdf(figure).print_pdf(stream, metadata={"CreationDate": None})
        else:
            figure.set_dpi(DOTS_PER_INCH)
            FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure (inches) with one panel."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def panels(width: float, height: float, rows: int, columns: int, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure (inches) with ``rows`` x ``columns`` panels, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **options).ravel())


def grid(
    count: int, columns: int, width: float, height: float, more: tuple[float, float] = (0.0, 0.0), **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels of this size (inches, and ``more`` in all) in ``columns``, row by row."""
    rows = -(-count // columns)
    figure, every = panels(width * columns + more[0], height * rows + more[1], rows, columns, **options)
    for axes in every[count:]:
        axes.set_visible(False)
    return figure, every[:count]


def small_panels(names: Sequence[str], across: str, up: str) -> tuple[Figure, list[Axes]]:
    """A figure with a small panel for each of ``names``, four abreast, which have their axes in common."""
    columns = min(len(names), 4)
    figure, axes_of = grid(len(names), columns, 1.9, 1.9, (0.4, 0.3), sharex=True, sharey=True)
    for axes, name in zip(axes_of, names, strict=True):
        axes.set_title(title(name), size=8.5)
        quiet_grid(axes)
    for axes in axes_of[-columns:]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(across, size=8)
    figure.supylabel(up, size=9)
    return figure, axes_of


def slanted(axes: Axes, names: Sequence[str], rotation: int = 35, **letters: Any) -> None:
    """Write ``names`` along the x axis at 0, 1, ..."""
    axes.set_xticks(range(len(names)), names, rotation=rotation, ha="right", rotation_mode="anchor", **letters)


def percents(rows: Rows, *names: str) -> Iterator[list[float]]:
    """The shares with these ``names`` in percent, one after the other."""
    return ([100 * row[name] for row in rows] for name in names)


def look(place: int) -> dict[str, Any]:
    """Colour and marker of the series with this number."""
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}


def line(place: int) -> dict[str, Any]:
    """Colour and dashes of the curve with this number."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": LINES[place // len(COLOURS) % len(LINES)]}


def quiet_grid(axes: Axes, axis: Any = "both") -> None:
    axes.grid(axis=axis, color="0.93")
    axes.set_axisbelow(True)


def write_mark(figure: Figure, mark: str | None) -> None:
    """Write the ``mark`` of simulated results under the figure."""
    if mark:
        figure.supxlabel(mark, size=7, color="0.45")


def contrast(one: str, other: str) -> float:
    """Contrast of two colours as WCAG 2 defines it: 1 to 21; text needs 4.5."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def ink_on(background: str) -> str:
    """Black or white, whichever reads better; the contrast is never below 4.58."""
    return max(("#000000", "#ffffff"), key=lambda ink: contrast(ink, background))


def _luminance(colour: str) -> float:
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
