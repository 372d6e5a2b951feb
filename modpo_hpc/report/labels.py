"""Labels of points that cover neither each other nor the points."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

_ANGLES = (20, -20, 160, -160, 90, -90, 50, -50, 130, -130, 0, 180)
_DISTANCES = (9, 16, 25, 36, 50, 66, 84)
_POINT_RADIUS = 6.0
_GAP = 2.0


def place(axes: Axes, points: Sequence[tuple[float, float]], labels: Sequence[str], size: float = 8.5) -> list[Bbox]:
    """Write a label beside each of ``points`` (data coordinates) and return the boxes (pixels) of the labels.

    Each label takes the nearest free place around its point: inside the axes, off every point and every label that
    already stands. One that has to go far gets a thin line back to its point. Crowded points come first.
    """
    canvas = FigureCanvasAgg(axes.figure.get_figure(root=True))
    canvas.draw()
    renderer, frame = canvas.get_renderer(), axes.get_window_extent()
    scale = axes.figure.dpi / 72
    centres = [tuple(axes.transData.transform(point)) for point in points]
    dots = [_around(x, y, _POINT_RADIUS * scale) for x, y in centres]
    taken: dict[int, Bbox] = {}
    for number in sorted(range(len(points)), key=lambda one: _room(centres, one)):
        text = axes.annotate(labels[number], points[number], size=size, ha="center", va="center", annotation_clip=False)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        extent = text.get_window_extent(renderer)
        width, height = extent.width + _GAP * scale, extent.height + _GAP * scale
        box, far = _free_place(centres[number], width, height, scale, frame, [*dots, *taken.values()])
        taken[number] = box
        x, y = axes.transData.inverted().transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
        text.set_position((float(x), float(y)))
        if far:
            nearest = (min(max(centres[number][0], box.x0), box.x1), min(max(centres[number][1], box.y0), box.y1))
            line = axes.transData.inverted().transform([centres[number], nearest])
            axes.plot(line[:, 0], line[:, 1], color="0.6", linewidth=0.6, zorder=1, scalex=False, scaley=False)
    return [taken[number] for number in range(len(points))]


def _free_place(
    centre: tuple[float, ...], width: float, height: float, scale: float, frame: Bbox, obstacles: Sequence[Bbox]
) -> tuple[Bbox, bool]:
    least, best = math.inf, (Bbox.null(), False)
    for distance in _DISTANCES:
        for angle in _ANGLES:
            x = centre[0] + math.cos(math.radians(angle)) * (distance * scale + width / 2)
            y = centre[1] + math.sin(math.radians(angle)) * (distance * scale + height / 2)
            box = Bbox.from_extents(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            cost = sum(_shared(box, other) for other in obstacles) + _outside(box, frame)
            if cost == 0:
                return box, distance > _DISTANCES[1]
            if cost < least:
                least, best = cost, (box, distance > _DISTANCES[1])
    return best


def _room(centres: Sequence[tuple[float, ...]], one: int) -> float:
    return min((math.dist(centres[one], other) for k, other in enumerate(centres) if k != one), default=math.inf)


def _around(x: float, y: float, radius: float) -> Bbox:
    return Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)


def _shared(a: Bbox, b: Bbox) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return width * height if width > 0 and height > 0 else 0.0


def _outside(box: Bbox, frame: Bbox) -> float:
    return box.width * box.height - _shared(box, frame)
