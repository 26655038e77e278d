"""Registries of the package, children of MMEngine's.

MMEngine imports this module when it meets a type like ``'lisa_mm.LiSA'``, in
the registries of every codebase, and then imports the ``locations``. Nothing
that can fail belongs here: MMEngine swallows an ``ImportError`` of this module,
but not one of a location.
"""

from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='lisa_mm', locations=['lisa_mm.models'])

__all__ = ['MODELS']
