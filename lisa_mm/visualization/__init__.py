"""Pictures, drawn with matplotlib."""

from .instances import draw_instances

__all__ = ['draw_instances']
