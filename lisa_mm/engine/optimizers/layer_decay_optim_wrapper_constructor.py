"""Learning rates that fall from the head to the stem."""

from __future__ import annotations

import inspect
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from lisa_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS

# Position embeddings: of this package, and of the backbones of MMPretrain.
NO_DECAY = ('rpe_', 'relative_position_bias_table', 'pos_embed', 'cls_token')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Multiply the learning rate by a factor for every layer further from the head.

    Works in any model, a classifier, detector or segmenter, with any backbone
    that has a method ``get_layer_depth(param_name, prefix)``, as
    :class:`lisa_mm.models.LiSA` and those of MMPretrain do. What is outside of
    the backbone counts as its last layer.

    Weights are not decayed that have one dimension, as of norms and biases, nor
    are position embeddings, unless ``custom_keys`` give a ``decay_mult`` for them.

    Args:
        optim_wrapper_cfg: Config of the optimiser and its wrapper.
        paramwise_cfg: ``layer_decay_rate``, the factor, in (0, 1], and whatever
            MMEngine's default constructor knows.

    Raises:
        ValueError: If the rate is missing or out of range; when called, if the
            model has no such backbone.

    Example:
        >>> from mmengine.logging import MMLogger
        >>> from torch import nn
        >>> from lisa_mm.engine import LayerDecayOptimWrapperConstructor
        >>> from lisa_mm.models import LiSA
        >>> model = nn.ModuleDict(dict(backbone=LiSA('tiny'), head=nn.Linear(512, 10)))
        >>> constructor = LayerDecayOptimWrapperConstructor(
        ...     dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05)),
        ...     dict(layer_decay_rate=0.9),
        ... )
        >>> _ = MMLogger.get_instance('quiet', log_level='ERROR')  # MMEngine logs every parameter
        >>> groups = constructor(model).optimizer.param_groups
        >>> [f'{group["lr"]:.2g}' for group in (groups[0], groups[-1])]
        ['0.00025', '0.001']

    Source: layer-wise decay as in `ELECTRA
    <https://arxiv.org/abs/2003.10555>`_ and `BEiT
    <https://arxiv.org/abs/2106.08254>`_.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        paramwise_cfg = dict(paramwise_cfg or {})
        self.rate = paramwise_cfg.pop('layer_decay_rate', None)
        if not isinstance(self.rate, (int, float)) or not 0 < self.rate <= 1:
            raise ValueError(
                'paramwise_cfg must have a layer_decay_rate in (0, 1], such as 0.9, '
                f'got {self.rate!r}'
            )
        # MMEngine asks for groups of parameters only where it has something to set
        paramwise_cfg.setdefault('bypass_duplicate', False)
        super().__init__(optim_wrapper_cfg, paramwise_cfg)

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        """Add the parameters of a module, each with its learning rate.

        Args:
            params: Groups of parameters, added to.
            module: The module.
            prefix: Its name in the model. Defaults to ``''``: the model itself.
            **kwargs: For MMEngine's constructor.
        """
        super().add_params(params, module, prefix, **kwargs)
        if prefix:  # MMEngine comes here for every module; the rates are set once, for all
            return
        backbones = _find_backbones(module)
        names = {parameter: name for name, parameter in module.named_parameters()}
        layers: dict[int, list[float]] = {}
        for group in params:
            [parameter] = group['params']
            name = names[parameter]
            flat = parameter.dim() <= 1 or any(key in name for key in NO_DECAY)
            if flat and 'decay_mult' not in group:
                group['weight_decay'] = 0.0
            prefix = next((start for start in backbones if name.startswith(start)), None)
            if prefix is None:
                continue
            layer, num_layers = backbones[prefix].get_layer_depth(name, prefix)
            scale = self.rate ** (num_layers - 1 - layer)
            group['lr'] = group.get('lr', self.base_lr) * scale
            layers.setdefault(layer, []).append(group['lr'])
        for layer, rates in sorted(layers.items()):
            print_log(
                f'layer {layer} of the backbone: {len(rates)} parameters, learning rate '
                f'{max(rates):.3g}',
                logger='current',
            )


def _find_backbones(model: nn.Module) -> dict[str, nn.Module]:
    """Find the backbones that know their layers, by their names with a dot behind.

    MMPretrain's classifiers have a method of that name, too, which takes no
    prefix: they ask their backbone.
    """
    found = {
        f'{name}.' if name else '': module
        for name, module in model.named_modules()
        if hasattr(module, 'get_layer_depth')
        and 'prefix' in inspect.signature(module.get_layer_depth).parameters
    }
    if not found:
        backbone = type(getattr(model, 'backbone', model)).__name__
        raise ValueError(
            f'layer-wise learning rates need a backbone with a method get_layer_depth(param_name, '
            f'prefix), and {backbone} has none: use lisa_mm.LiSA or one of MMPretrain, or another '
            'constructor'
        )
    return found
