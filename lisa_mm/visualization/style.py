"""What lines and points look like in all pictures."""

from __future__ import annotations

# Okabe and Ito's colours, which colour-blind people can tell apart
COLORS = ('#E69F00', '#56B4E9', '#009E73', '#F0E442', '#0072B2', '#D55E00', '#CC79A7')
# yellow is hard to see on white
_LINE_COLORS = tuple(color for color in COLORS if color != '#F0E442')
_MARKERS = 'osD^vPX*h'
_LINE_STYLES = '-', '--', ':'


def series_style(index: int) -> dict[str, str]:
    """Return ``color``, ``marker`` and ``linestyle`` of a series; the first one is black.

    Example:
        >>> from lisa_mm.visualization.style import series_style
        >>> series_style(0)
        {'color': 'black', 'marker': 'o', 'linestyle': '-'}
    """
    number = len(_LINE_COLORS)
    return dict(
        color='black' if index == 0 else _LINE_COLORS[index % number],
        marker=_MARKERS[index % len(_MARKERS)],
        linestyle=_LINE_STYLES[index // number % len(_LINE_STYLES)],
    )
