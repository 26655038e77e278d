# Copyright (c) The lisa_mm authors.
"""Structure-aware attention backbones for OpenMMLab.

Importing the package loads neither torch nor any OpenMMLab package: ``type='lisa_mm.LiSA'`` in a
config makes mmengine import ``lisa_mm.registry``, which knows where everything else lives.
"""

from lisa_mm.version import __version__

__all__ = ['__version__']
