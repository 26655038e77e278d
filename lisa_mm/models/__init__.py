"""Models, registered in MMEngine's registry tree under the scope ``lisa_mm``."""

from lisa_mm.utils.environment import check_foundation

# MMEngine imports this module from its registries and lets errors through:
# the place to say that an installed package is too old.
check_foundation()

from .attention import SelfAttention, StructureAwareAttention  # noqa: E402
from .backbones import LiSA  # noqa: E402

__all__ = ['LiSA', 'SelfAttention', 'StructureAwareAttention']
