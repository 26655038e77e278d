import os
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from lisa_mm.utils.checkpoint import (
    HAS_SAFE_GLOBALS,
    CheckpointError,
    load_checkpoint,
    load_weights,
    match_weights,
    state_dict_of,
)


def save(folder, content, name='checkpoint.pth'):
    path = folder / name
    torch.save(content, path)
    return str(path)


def training_checkpoint():
    """What MMEngine writes in the course of a training."""
    history = HistoryBuffer()
    history.update(0.5)
    model = nn.Linear(3, 2)
    return dict(
        meta=dict(epoch=1, cfg='text', dataset_meta=dict(classes=('a', 'b'))),
        state_dict=model.state_dict(),
        message_hub=dict(
            log_scalars=OrderedDict(loss=history),
            runtime_info=OrderedDict(score=np.float64(0.5), steps=np.arange(3)),
        ),
        optimizer=torch.optim.AdamW(model.parameters()).state_dict(),
    )


@pytest.mark.skipif(not HAS_SAFE_GLOBALS, reason='needs PyTorch 2.4')
def test_reads_what_mmengine_writes(tmp_path):
    checkpoint = load_checkpoint(save(tmp_path, training_checkpoint()))
    assert checkpoint['message_hub']['log_scalars']['loss'].current() == 0.5
    assert checkpoint['message_hub']['runtime_info']['score'] == 0.5


@pytest.mark.skipif(HAS_SAFE_GLOBALS, reason='PyTorch 2.4 reads it')
def test_old_pytorch_reads_published_files_only(tmp_path):
    with pytest.raises(ValueError, match='HistoryBuffer, which is no weight.*publish_model.py'):
        load_checkpoint(save(tmp_path, training_checkpoint()))
    content = dict(state_dict=nn.Linear(3, 2).state_dict())
    assert 'state_dict' in load_checkpoint(save(tmp_path, content))


class Call:
    """Makes pickle call a function."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.mark.parametrize(
    'content',
    [
        Call(print, 'this code must not run'),
        Call(os.system, 'echo this code must not run'),
        # more than the methods of a history, by the name that is let through
        Call(getattr, HistoryBuffer.mean, '__globals__'),
        Call(getattr, HistoryBuffer, '_statistics_methods'),
    ],
)
def test_refuses_to_run_code(tmp_path, content, capfd):
    path = save(tmp_path, dict(state_dict={}, extra=content))
    with pytest.raises(CheckpointError, match='which is no weight: reading it could run code'):
        load_checkpoint(path)
    assert 'must not run' not in capfd.readouterr().out


def test_a_truncated_file(tmp_path):
    path = save(tmp_path, dict(state_dict=dict(weight=torch.zeros(1000))))
    with open(path, 'rb') as file:
        content = file.read()
    for length in (0, 10, len(content) // 2, len(content) - 10):
        with open(path, 'wb') as file:
            file.write(content[:length])
        with pytest.raises(
            ValueError, match='checkpoint.pth is no checkpoint of weights, or an inc'
        ):
            load_checkpoint(path)


def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no checkpoint file .*missing.pth'):
        load_checkpoint(str(tmp_path / 'missing.pth'))
    text = tmp_path / 'text.pth'
    text.write_text('no weights\n')
    with pytest.raises(ValueError, match='text.pth is no checkpoint'):
        load_checkpoint(str(text))
    with pytest.raises(ValueError, match='must hold a dict of weights, it holds a Tensor'):
        load_checkpoint(save(tmp_path, torch.zeros(2)))


def test_downloads_once(tmp_path, monkeypatch):
    path = save(tmp_path, dict(state_dict=dict(weight=torch.ones(1))))
    calls = []

    def download(url, target, hash_prefix=None):
        calls.append((url, hash_prefix))
        with open(path, 'rb') as source, open(target, 'wb') as file:
            file.write(source.read())

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    dated = 'https://example.org/lisa-20261231.pth'
    assert load_checkpoint(dated)['state_dict']['weight'] == 1
    load_checkpoint(dated)
    other = 'https://example.org/other/lisa-20261231.pth'
    load_checkpoint(other)
    published = 'https://example.org/lisa-0a1b2c3d.pth'
    load_checkpoint(published)
    assert calls == [(dated, None), (other, None), (published, '0a1b2c3d')]


def test_a_download_that_fails(tmp_path, monkeypatch):
    def download(url, target, hash_prefix=None):
        raise OSError('no route')

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    # with a process group there is another way of asking for one's rank
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/group', rank=0, world_size=1
    )
    try:
        with pytest.raises(CheckpointError, match='https://a.org/b.pth cannot be downloaded: no r'):
            load_checkpoint('https://a.org/b.pth')
    finally:
        torch.distributed.destroy_process_group()


def test_state_dict_of_a_part():
    inner = nn.Sequential(nn.Linear(2, 2))
    model = nn.ModuleDict(dict(backbone=inner, head=nn.Linear(2, 2)))
    inner[0]._version = 3
    found = state_dict_of(dict(state_dict=model.state_dict()), 'backbone')
    assert list(found) == ['0.weight', '0.bias']
    assert found._metadata[''] == dict(version=1)
    assert found._metadata['0'] == dict(version=3)
    wrapped = {f'module.{name}': value for name, value in model.state_dict().items()}
    assert list(state_dict_of(dict(model=wrapped), 'head.')) == ['weight', 'bias']
    assert list(state_dict_of(model.state_dict(), 'head.')) == ['weight', 'bias']


def test_match_weights():
    module = nn.Module()
    for name in ('same', 'rpe_encoder', 'rpe_decoder', 'misfit', 'missing'):
        module.register_parameter(name, nn.Parameter(torch.zeros(2, 1, 5, 5)))
    weights = dict(
        same=torch.zeros(2, 1, 5, 5),
        rpe_encoder=torch.zeros(2, 1, 7, 3),
        rpe_decoder=torch.zeros(3, 1, 5, 5),
        misfit=torch.zeros(2, 1, 7, 3),
        other=torch.zeros(1),
    )
    match = match_weights(module, weights)
    assert (match.loaded, match.resized, match.missing, match.unexpected) == (2, 1, 1, 1)
    assert str(match).endswith('1 missing, 1 unexpected, 2 of another shape')


def test_load_weights_says_what_it_did(tmp_path, log):
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    weights = {f'backbone.{name}': value for name, value in model.state_dict().items()}
    path = save(tmp_path, dict(state_dict={**weights, 'head.weight': torch.zeros(1)}))
    match = load_weights(other, path, 'backbone.')
    torch.testing.assert_close(other.weight, model.weight)
    assert (match.loaded, match.missing, match.unexpected) == (2, 0, 0)
    assert log == [f'Linear, {path}: 2 tensors loaded (0 of them resized), 0 missing, 0 unexpected']


def test_load_weights_refuses_what_has_nothing_of_the_module(tmp_path):
    path = save(tmp_path, dict(state_dict={'backbone.weight': torch.zeros(2, 2)}))
    message = r"nothing for Linear: none of its 1 tensors with prefix '' .* one of \['backbone.'\]"
    with pytest.raises(ValueError, match=message):
        load_weights(nn.Linear(2, 2), path)


def test_load_weights_of_another_shape(tmp_path):
    path = save(tmp_path, nn.Linear(3, 4).state_dict())
    with pytest.raises(ValueError, match='does not fit Linear: .* 2 errors, the first: size mis'):
        load_weights(nn.Linear(2, 2), path)
