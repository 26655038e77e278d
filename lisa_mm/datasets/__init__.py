"""Generator of the small embedded data set, and helpers for data of one's own."""

from .coco import coco_classes
from .folders import folder_classes
from .shapes import SHAPE_CLASSES, generate_shapes

__all__ = ['SHAPE_CLASSES', 'coco_classes', 'folder_classes', 'generate_shapes']
