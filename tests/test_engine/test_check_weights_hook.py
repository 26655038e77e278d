from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn

from lisa_mm.engine import CheckWeightsHook
from lisa_mm.utils.checkpoint import CheckpointError


def load(model, weights):
    runner = SimpleNamespace(model=model, logger=MMLogger.get_current_instance())
    CheckWeightsHook().after_load_checkpoint(runner, dict(state_dict=weights))


def test_refuses_a_checkpoint_of_another_model():
    with pytest.raises(
        ValueError, match='not for this Linear: 0 tensors loaded .* is backbone.weight'
    ):
        load(nn.Linear(2, 2), {'backbone.weight': torch.zeros(2, 2)})
    with pytest.raises(
        CheckpointError, match='not for this Linear: .* 1 of another shape.* is weight'
    ):
        load(nn.Linear(2, 2), {'weight': torch.zeros(3, 3)})


def test_looks_where_mmengine_does(tmp_path):
    model = nn.Linear(2, 2)
    runner = SimpleNamespace(model=model, logger=MMLogger.get_current_instance())
    # MMEngine would load nothing of this
    with pytest.raises(CheckpointError, match='not for this Linear: 0 tensors loaded'):
        CheckWeightsHook().after_load_checkpoint(runner, dict(model=model.state_dict()))
    CheckWeightsHook().after_load_checkpoint(runner, model.state_dict())


def test_takes_one_that_fits_in_part(log):
    wrapped = nn.Module()
    wrapped.module = nn.Linear(2, 2)
    load(wrapped, {'weight': torch.zeros(2, 2), 'other': torch.zeros(1)})
    assert log == ['Linear: 1 tensors loaded (0 of them resized), 1 missing, 1 unexpected']
