"""Pictures made of rows of maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

# maps that colour-blind people can read
SIGNED, POSITIVE = 'RdBu_r', 'cividis'


@dataclass(frozen=True)
class Panel:
    """One map of a picture.

    Args:
        title: What stands above it, with the range of the colours.
        values: (H, W) of numbers, or (H, W, 3) of an image. Signed
            numbers are drawn in two colours with white at zero, others from
            dark to bright.
        extent: Width and height that the map stands for, in pixels of an
            image. Defaults to None: its own.
        signed: Whether zero is in the middle of the colours. Defaults to None:
            where there are negative numbers.
        mark: Point (x, y) to mark, in the units of the extent. Defaults to
            None.
    """

    title: str
    values: np.ndarray
    extent: tuple[int, int] | None = None
    signed: bool | None = None
    mark: tuple[float, float] | None = None


def draw_panels(
    rows: Sequence[Sequence[Panel]], title: str = '', side: float = 1.9, dpi: int = 110
) -> Figure:
    """Draw rows of panels, each with a scale of its own, which its title says.

    Args:
        rows: The panels.
        title: What stands above all. Defaults to ``''``.
        side: Width of a panel, in inches. Defaults to 1.9.
        dpi: Dots per inch. Defaults to 110.

    Returns:
        Figure: Save it with ``savefig``.
    """
    columns = max(map(len, rows))
    first = rows[0][0]
    width, height = first.extent or first.values.shape[1::-1]
    figure = Figure(
        figsize=(side * columns, (side * min(2, height / width) + 0.35) * len(rows) + 0.4),
        dpi=dpi,
        layout='constrained',
    )
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.axis('off')
    for line, panels in zip(grid, rows):
        for axes, panel in zip(line, panels):
            _draw(axes, panel)
    figure.suptitle(title, fontsize=10)
    return figure


def _draw(axes, panel: Panel) -> None:
    values = panel.values
    width, height = panel.extent or values.shape[1::-1]
    options, title = {}, panel.title
    if values.ndim == 2:
        limit = float(np.abs(values).max()) or 1.0
        signed = values.min() < 0 if panel.signed is None else panel.signed
        title = f'{title} ({"±" if signed else "0 to "}{limit:.2g})'
        options = dict(
            cmap=SIGNED if signed else POSITIVE, vmin=-limit if signed else 0, vmax=limit
        )
    axes.imshow(values, extent=(0, width, height, 0), interpolation='nearest', **options)
    axes.set_title(title, fontsize=8)
    if panel.mark is not None:
        # black on white: seen on any map
        for color, size in (('white', 9), ('black', 6)):
            axes.plot(
                *panel.mark, marker='+', color=color, markersize=size, mew=2 if size > 6 else 1
            )
