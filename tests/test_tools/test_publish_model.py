import hashlib

import numpy as np
import torch

from lisa_mm.utils.checkpoint import load_checkpoint

SCRIPT = 'tools/model_converters/publish_model.py'


def make(path, **extra):
    model = torch.nn.Linear(100, 100)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(100)).sum().backward()
    optimizer.step()
    meta = dict(cfg='text', epoch=3, experiment_name='secret')
    checkpoint = dict(state_dict=model.state_dict(), optimizer=optimizer.state_dict(), meta=meta)
    torch.save({**checkpoint, **extra}, path)
    return model


def test_publishes_weights_only_under_their_hash(run_tool, tmp_path):
    model = make(tmp_path / 'epoch_3.pth')
    out = run_tool(SCRIPT, 'epoch_3.pth', 'released/lisa.pth')
    [path] = (tmp_path / 'released').iterdir()
    assert f'released/{path.name}: 0.0 MiB' in out
    assert path.name == f'lisa-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth'
    found = load_checkpoint(str(path))
    assert set(found) == {'meta', 'state_dict'}
    assert found['meta']['cfg'] == 'text' and 'experiment_name' not in found['meta']
    torch.testing.assert_close(found['state_dict']['weight'], model.weight.detach())


def test_leaves_out_what_only_some_pytorch_reads(run_tool, tmp_path):
    meta = dict(cfg='text', dataset_meta=dict(palette=np.zeros((2, 3))))
    make(tmp_path / 'epoch_3.pth', meta=meta)
    run_tool(SCRIPT, '--trust', 'epoch_3.pth', 'released/lisa.pth')
    [path] = (tmp_path / 'released').iterdir()
    assert set(torch.load(path, weights_only=True)['meta']) == {'cfg', 'lisa_mm_version'}


def test_needs_trust_for_what_is_not_weights(run_tool, fails_with, tmp_path):
    make(tmp_path / 'epoch_3.pth', extra=print)
    out = fails_with(SCRIPT, 'epoch_3.pth', 'lisa.pth')
    assert 'which is no weight' in out and '--trust' in out
    run_tool(SCRIPT, '--trust', 'epoch_3.pth', 'lisa.pth')
    assert len(list(tmp_path.glob('lisa-*.pth'))) == 1


def test_missing_checkpoint(fails_with):
    for options in ([], ['--trust']):
        out = fails_with(SCRIPT, *options, 'none.pth', 'lisa.pth')
        assert 'there is no checkpoint file none.pth' in out
