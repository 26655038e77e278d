"""Registries of the package, children of MMEngine's.

MMEngine imports this module when it meets a type like ``'lisa_mm.LiSA'``, in
the registries of every codebase, and then imports the ``locations``. Nothing
that can fail belongs here: MMEngine swallows an ``ImportError`` of this module,
but not one of a location.
"""

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry


def _child(name: str, parent: Registry, location: str) -> Registry:
    return Registry(name, parent=parent, scope='lisa_mm', locations=[location])


MODELS = _child('model', mmengine_registry.MODELS, 'lisa_mm.models')
HOOKS = _child('hook', mmengine_registry.HOOKS, 'lisa_mm.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor',
    mmengine_registry.OPTIM_WRAPPER_CONSTRUCTORS,
    'lisa_mm.engine',
)

__all__ = ['HOOKS', 'MODELS', 'OPTIM_WRAPPER_CONSTRUCTORS']
