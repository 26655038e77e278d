"""Models, registered in MMEngine's registry tree under the scope ``lisa_mm``."""

from lisa_mm.utils.environment import check_foundation

# MMEngine imports this module from its registries and lets errors through:
# the place to say that an installed package is too old.
check_foundation()

from . import attention, backbones  # noqa: E402
from .attention import *  # noqa: E402, F403
from .backbones import *  # noqa: E402, F403

__all__ = [*attention.__all__, *backbones.__all__]
