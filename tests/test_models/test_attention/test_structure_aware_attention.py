import copy

import pytest
import reference
import torch
import torch.utils.checkpoint
from torch._subclasses import FakeTensorMode

from lisa_mm.models import StructureAwareAttention
from lisa_mm.ops._cache import MAX_ENTRIES, PreparedTables
from lisa_mm.ops._registration import HAS_CUSTOM_OP

needs_custom_op = pytest.mark.skipif(not HAS_CUSTOM_OP, reason='promised from PyTorch 2.4 on')


def seen_energy(table, grid):
    """The share of the energy of a table that each position sees, entry by entry."""
    ones = torch.ones(1, table.shape[0], 1, *grid, dtype=table.dtype)
    seen = reference.correlate(ones, table.square(), 'zero')[0, :, 0]
    return seen / table.square().sum((2, 3), keepdim=True)


def pattern_factors(module, grid):
    """What makes up for the part of the tables that a position does not see."""
    if module.boundary == 'circular':
        return 1.0
    seen = [seen_energy(table, grid).clamp_min(0.01) for table in module.tables(grid)]
    return 0.25 / (seen[0] * seen[1]).sqrt()


def attend(module, query, key, value, grid):
    """Patterns and output by the definition."""
    encoder, decoder = module.tables(grid)
    patterns, _ = reference.attention(query, key, key, encoder, decoder, module.boundary)
    patterns = patterns * pattern_factors(module, grid)
    mixed = reference.correlate(value, decoder, module.boundary)
    return patterns, (patterns.unsqueeze(2) * mixed).sum(3)


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(),
        dict(boundary='circular'),
        dict(resolution='interpolate', reference_grid=(6, 5)),
        dict(boundary='circular', resolution='interpolate', reference_grid=(6, 5)),
    ],
)
@pytest.mark.parametrize('impl', ['auto', 'dense', 'fft'])
@pytest.mark.parametrize('grid', [(1, 1), (1, 9), (5, 7), (13, 12)])
def test_computes_the_definition(grid, impl, kwargs):
    torch.manual_seed(0)
    module = StructureAwareAttention(
        12, num_heads=3, num_patterns=2, rpe_radius=(3, 2), impl=impl, **kwargs
    ).double()
    x = torch.randn(2, 12, *grid, dtype=torch.float64).requires_grad_()
    query, key, value = module.qkv(x).view(2, 3, 3, 4, *grid).unbind(1)
    query = query / query.norm(dim=2, keepdim=True) * (4 / 2) ** 0.5
    key = key / key.norm(dim=2, keepdim=True)
    _, out = attend(module, query, key, value, grid)
    expected = module.proj(out.reshape(2, 12, *grid))
    parameters = x, *module.parameters()
    found = module(x)
    assert reference.relative_error(found, expected) < 1e-10
    weights = torch.randn_like(found)
    gradients = (torch.autograd.grad((y * weights).sum(), parameters) for y in (found, expected))
    for (name, _), own, other in zip((('x', x), *module.named_parameters()), *gradients):
        assert reference.relative_error(own, other) < 1e-9, name
    with torch.no_grad():  # with prepared tables
        assert reference.relative_error(module.eval()(x), expected) < 1e-10


@pytest.mark.parametrize('boundary', ['zero', 'circular'])
def test_patterns_and_kernels_are_those_of_the_definition(boundary):
    torch.manual_seed(0)
    module = StructureAwareAttention(
        12, num_heads=3, num_patterns=2, rpe_radius=(3, 2), boundary=boundary
    ).double()
    x = torch.randn(1, 12, 4, 6, dtype=torch.float64)
    query, key, _ = module.qkv(x).view(1, 3, 3, 4, 4, 6).unbind(1)
    query = query / query.norm(dim=2, keepdim=True) * (4 / 2) ** 0.5
    key = key / key.norm(dim=2, keepdim=True)
    patterns, _ = attend(module, query, key, key, (4, 6))
    torch.testing.assert_close(module.patterns(x), patterns)
    n = 2, 5
    plain = torch.einsum('bgc,bgchw->bghw', query[..., 2, 5], key)
    torch.testing.assert_close(module.plain_kernels(x, torch.tensor([n]))[:, :, 0], plain)
    expected = torch.zeros(1, 3, 4, 6, dtype=torch.float64)
    for y in range(4):
        for u in range(6):
            # what position n sees of a one at (y, u)
            one = torch.zeros(1, 3, 1, 4, 6, dtype=torch.float64)
            one[..., y, u] = 1
            seen = reference.correlate(one, module.rpe_decoder, boundary)[:, :, 0]
            expected[..., y, u] = (patterns * seen).sum(2)[..., 2, 5]
    torch.testing.assert_close(module.kernels(x, torch.tensor([n]))[:, :, 0], expected)


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    module = StructureAwareAttention(8, 2, num_patterns=2, rpe_radius=3)
    module(torch.randn(2, 8, 6, 5)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_tables_start_with_unit_norm():
    module = StructureAwareAttention(8, 2, num_patterns=3, rpe_radius=(5, 9))
    for table in (module.rpe_encoder, module.rpe_decoder):
        assert table.shape == (2, 3, 11, 19)
        torch.testing.assert_close(table.flatten(2).norm(dim=2), torch.ones(2, 3))


@pytest.mark.parametrize('num_patterns', [1, 4])
def test_the_scale_does_not_drift_with_the_grid(num_patterns):
    torch.manual_seed(0)
    module = StructureAwareAttention(32, 4, num_patterns=num_patterns, rpe_radius=13)
    module.proj = torch.nn.Identity()
    torch.nn.init.orthogonal_(module.qkv.weight.view(96, 32))
    with torch.no_grad():
        tiny, small, large = (
            module(torch.randn(1, 32, *grid)).std().item()
            for grid in ((7, 10), (56, 56), (200, 336))
        )
        corner = module(torch.randn(30, 32, 20, 20))[..., 0, 0].std().item()
        # what a training makes of tables: near offsets count more
        places = torch.arange(-13, 14)
        module.rpe_encoder *= (-(places**2) / 32).exp()
        module.rpe_decoder *= (-(places[:, None] ** 2 + places**2) / 32).exp()
        module.clear_prepared_tables()
        crop, whole = (
            module(torch.randn(1, 32, *grid))[..., 6:-6, 6:-6].std().item()
            for grid in ((14, 14), (56, 56))
        )
    # the tables reach from corner to corner of the first, and far less in the last
    assert large == pytest.approx(small, rel=0.1)
    assert tiny == pytest.approx(small, rel=0.4)
    assert corner == pytest.approx(small, rel=0.4)
    assert whole == pytest.approx(crop, rel=0.4)
    # about a quarter of the magnitude of the values, which is 1 / sqrt(3) here
    assert 0.08 < small < 0.3


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_no_overflow_for_large_activations(dtype):
    if dtype == torch.float16 and not HAS_CUSTOM_OP:
        pytest.skip('early versions of PyTorch have no half-precision convolutions on a CPU')
    torch.manual_seed(0)
    module = StructureAwareAttention(16, 2, rpe_radius=5).to(dtype)
    out = module(1e3 * torch.randn(1, 16, 9, 9).to(dtype))
    assert out.dtype == dtype
    assert out.isfinite().all()


def test_autocast():
    torch.manual_seed(0)
    module = StructureAwareAttention(16, 2, rpe_radius=5)
    x = torch.randn(1, 16, 9, 9)
    expected = module(x)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = module(x)
    assert out.dtype == torch.bfloat16
    assert reference.relative_error(out.float(), expected) < 0.03


def test_extend_keeps_the_weight_of_every_offset():
    # A map on a larger grid, zero but for the small grid, is seen as on the small one, but for
    # what makes up for the part of the tables that is not.
    torch.manual_seed(0)
    module = StructureAwareAttention(8, 2, rpe_radius=4, qkv_bias=False).double()
    x = torch.randn(1, 8, 5, 6, dtype=torch.float64)
    larger = torch.nn.functional.pad(x, (0, 7, 0, 3))
    small, large = (pattern_factors(module, grid) for grid in ((5, 6), (8, 13)))
    found = module.patterns(larger)[..., :5, :6] / large[..., :5, :6]
    torch.testing.assert_close(found, module.patterns(x) / small)


def test_interpolate_is_exact_on_the_reference_grid():
    torch.manual_seed(0)
    kwargs = dict(embed_dims=8, num_heads=2, rpe_radius=3)
    extend = StructureAwareAttention(**kwargs)
    interpolate = StructureAwareAttention(**kwargs, resolution='interpolate', reference_grid=(7, 5))
    interpolate.load_state_dict(extend.state_dict())
    x = torch.randn(1, 8, 7, 5)
    torch.testing.assert_close(interpolate(x), extend(x))
    x = torch.randn(1, 8, 14, 5)
    assert reference.relative_error(interpolate(x), extend(x)) > 0.1
    table = interpolate._table_for((14, 5), interpolate.rpe_encoder)
    assert table.shape[2:] == (13, 7)


@pytest.mark.parametrize('grid', [(3, 2), (7, 5), (15, 20)])
def test_interpolate_runs_on_any_grid(grid):
    module = StructureAwareAttention(8, 2, resolution='interpolate', reference_grid=7)
    assert module(torch.randn(1, 8, *grid)).shape == (1, 8, *grid)


def test_loads_tables_of_another_extent_by_extending(log):
    old = StructureAwareAttention(8, 2, rpe_radius=3)
    new = StructureAwareAttention(8, 2, rpe_radius=(5, 2))
    new.load_state_dict(old.state_dict())
    torch.testing.assert_close(new.rpe_encoder[:, :, 2:9], old.rpe_encoder[:, :, :, 1:-1])
    assert new.rpe_decoder[:, :, :2].abs().sum() == 0
    assert log == [
        f"{name}: tables of 7x7 offsets carried over to 11x5 (resolution='extend': "
        'offset by offset)'
        for name in ('rpe_encoder', 'rpe_decoder')
    ]


def test_loads_tables_of_another_extent_by_interpolating(log):
    old = StructureAwareAttention(8, 2, rpe_radius=3, resolution='interpolate', reference_grid=7)
    new = StructureAwareAttention(8, 2, rpe_radius=6, resolution='interpolate', reference_grid=14)
    new.load_state_dict(old.state_dict())
    expected = old._table_for((14, 14), old.rpe_encoder)
    torch.testing.assert_close(new.rpe_encoder, expected)
    assert new.reference_grid.tolist() == [14, 14]
    assert all('stretched by 2 x 2' in message for message in log)
    # tables of the same extent are taken as they are, with their grid
    other = StructureAwareAttention(8, 2, rpe_radius=3, resolution='interpolate', reference_grid=14)
    other.load_state_dict(old.state_dict())
    assert other.reference_grid.tolist() == [7, 7]
    x = torch.randn(1, 8, 14, 14)
    torch.testing.assert_close(other(x), old(x))


def test_extend_takes_the_weights_of_interpolate():
    old = StructureAwareAttention(8, 2, rpe_radius=3, resolution='interpolate', reference_grid=7)
    new = StructureAwareAttention(8, 2, rpe_radius=3)
    new.load_state_dict(old.state_dict())  # strict: no unexpected key
    torch.testing.assert_close(new.rpe_encoder, old.rpe_encoder)


def test_other_numbers_of_heads_do_not_load():
    state = StructureAwareAttention(8, 2, rpe_radius=3).state_dict()
    with pytest.raises(RuntimeError, match='size mismatch for rpe_encoder'):
        StructureAwareAttention(8, 4, rpe_radius=2).load_state_dict(state)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(num_heads=3), 'embed_dims must be a multiple of num_heads, .*=8 and num_heads=3'),
        (dict(num_heads=0), 'num_heads must be an integer of at least 1, got 0'),
        (dict(num_patterns=1.5), 'num_patterns must be an integer of at least 1, got 1.5'),
        (dict(rpe_radius=-1), 'rpe_radius must be an integer of at least 0, or two .* got -1'),
        (dict(rpe_radius=(1, 2, 3)), r'rpe_radius must be .* got \(1, 2, 3\)'),
        (dict(boundary='reflect'), "boundary must be one of 'zero', 'circular', got 'reflect'"),
        (dict(resolution='crop'), "resolution must be one of 'extend', 'interpolate', got 'crop'"),
        (dict(impl='cuda'), "impl must be one of 'auto', 'dense', 'fft', got 'cuda'"),
        (dict(resolution='interpolate'), "resolution='interpolate' needs reference_grid"),
        (dict(resolution='interpolate', reference_grid=0), 'reference_grid must be .* got 0'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        StructureAwareAttention(**{**dict(embed_dims=8, num_heads=2), **kwargs})


def fresh(module, x):
    """What a module without prepared tables computes."""
    module.clear_prepared_tables()
    with torch.enable_grad():
        return module(x).detach()


def scale_in_place(module):
    with torch.no_grad():
        module.rpe_encoder.mul_(2)


def scale_data(module):
    module.rpe_decoder.data.mul_(-1)


def replace_data(module):
    module.rpe_decoder.data = torch.ones_like(module.rpe_decoder)


def load(module):
    module.load_state_dict({k: v + 1 for k, v in module.state_dict().items()})


@pytest.mark.parametrize('change', [scale_in_place, scale_data, replace_data, load])
@pytest.mark.parametrize('impl', ['dense', 'fft'])
@torch.no_grad()
def test_prepared_tables_follow_the_weights(impl, change):
    torch.manual_seed(0)
    module = StructureAwareAttention(16, 2, rpe_radius=3, impl=impl).eval()
    x = torch.randn(2, 16, 6, 7)
    before = module(x)
    assert len(module._prepared) == 2
    torch.testing.assert_close(before, fresh(module, x))
    module(x)
    change(module)
    after = module(x)
    assert reference.relative_error(after, before) > 0.1
    torch.testing.assert_close(after, fresh(module, x))


@pytest.mark.parametrize('change', [scale_in_place, replace_data, load])
@torch.no_grad()
def test_prepared_tables_follow_without_comparing_values(monkeypatch, change):
    """As on a GPU, where a comparison would wait for the device."""
    monkeypatch.setattr(PreparedTables, 'compared_devices', ())
    torch.manual_seed(0)
    module = StructureAwareAttention(16, 2, rpe_radius=3).eval()
    x = torch.randn(2, 16, 6, 7)
    module(x)
    change(module)
    torch.testing.assert_close(module(x), fresh(module, x))
    module(x)
    scale_data(module)  # nobody can see this one
    module.clear_prepared_tables()
    torch.testing.assert_close(module(x), fresh(module, x))


@torch.no_grad()
def test_no_tables_are_kept_for_other_weights_or_tensors():
    torch.manual_seed(0)
    module = StructureAwareAttention(16, 2, rpe_radius=3).eval()
    x = torch.randn(2, 16, 6, 7)
    other = {key: value * 2 for key, value in module.state_dict().items()}
    module(x)
    found = torch.func.functional_call(module, other, (x,))
    expected = StructureAwareAttention(16, 2, rpe_radius=3)
    expected.load_state_dict(other)
    torch.testing.assert_close(found, expected(x))
    module.clear_prepared_tables()
    with FakeTensorMode(allow_non_fake_inputs=True):
        module(x)
    assert len(module._prepared) == 0
    if HAS_CUSTOM_OP:
        with FakeTensorMode():
            fake, fake_x = StructureAwareAttention(8, 2, 2, 3), torch.randn(1, 8, 7, 6)
        assert fake(fake_x).shape == fake_x.shape
    assert module.to('meta')(x.to('meta')).shape == x.shape


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@pytest.mark.parametrize('resolution', ['extend', 'interpolate'])
@torch.no_grad()
def test_is_traced_in_evaluation(resolution):
    torch.manual_seed(0)
    module = StructureAwareAttention(8, 2, 2, 3, resolution=resolution, reference_grid=5).eval()
    x = torch.randn(1, 8, 7, 6)
    torch.testing.assert_close(torch.jit.trace(module, x)(x), module(x))


def test_a_batch_may_be_empty():
    module = StructureAwareAttention(8, 2, rpe_radius=3)
    x = torch.zeros(0, 8, 6, 5)
    module(x).sum().backward()
    assert module.rpe_encoder.grad.abs().sum() == 0
    with torch.no_grad():
        assert module.eval()(x).shape == x.shape


@torch.no_grad()
def test_prepared_tables_follow_the_optimizer_and_the_options():
    torch.manual_seed(0)
    module = StructureAwareAttention(16, 2, rpe_radius=3, impl='fft').eval()
    x = torch.randn(1, 16, 6, 7)
    module(x)
    optimizer = torch.optim.SGD(module.parameters(), lr=1)
    with torch.enable_grad():
        module(x).square().sum().backward()
    optimizer.step()
    torch.testing.assert_close(module(x), fresh(module, x))
    module.boundary = 'circular'
    torch.testing.assert_close(module(x), fresh(module, x))
    module.double()
    torch.testing.assert_close(module(x.double()), fresh(module, x.double()))


def test_tables_are_prepared_in_evaluation_alone():
    module = StructureAwareAttention(16, 2, rpe_radius=3)
    x = torch.randn(1, 16, 6, 7)
    module(x)
    with torch.no_grad():
        module(x)
    module.eval()
    module(x)  # asks for gradients
    assert len(module._prepared) == 0
    with torch.inference_mode():
        module(x)
        module(x)
    assert len(module._prepared) == 2
    assert len(copy.deepcopy(module)._prepared) == 0
    module.train()
    assert len(module._prepared) == 0


@torch.no_grad()
def test_few_prepared_tables_are_kept():
    module = StructureAwareAttention(8, 2, rpe_radius=3).eval()
    for size in range(1, 12):
        module(torch.randn(1, 8, size, 5))
    assert len(module._prepared) == MAX_ENTRIES


@needs_custom_op
@pytest.mark.parametrize('resolution', ['extend', 'interpolate'])
def test_compiles_without_a_graph_break(resolution):
    torch.manual_seed(0)
    module = StructureAwareAttention(16, 2, rpe_radius=3, resolution=resolution, reference_grid=5)
    compiled = torch.compile(module, fullgraph=True, backend='aot_eager')
    x = torch.randn(2, 16, 7, 6, requires_grad=True)
    inputs = x, *module.parameters()
    expected, found = module(x), compiled(x)
    torch.testing.assert_close(found, expected)
    for found_grad, expected_grad in zip(
        torch.autograd.grad(found.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
    ):
        torch.testing.assert_close(found_grad, expected_grad, rtol=1e-4, atol=1e-4)
    module.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), module(x))


@needs_custom_op
@pytest.mark.slow
def test_inductor():
    torch.manual_seed(0)
    module = StructureAwareAttention(16, 2, rpe_radius=3)
    compiled = torch.compile(module, fullgraph=True)
    x = torch.randn(2, 16, 7, 6, requires_grad=True)
    inputs = x, *module.parameters()
    for found, expected in zip(
        torch.autograd.grad(compiled(x).square().sum(), inputs),
        torch.autograd.grad(module(x).square().sum(), inputs),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_activation_checkpointing():
    torch.manual_seed(0)
    module = StructureAwareAttention(16, 2, rpe_radius=3)
    x = torch.randn(2, 16, 7, 6, requires_grad=True)
    inputs = x, *module.parameters()
    again = torch.utils.checkpoint.checkpoint(module, x, use_reentrant=False)
    for found, expected in zip(
        torch.autograd.grad(again.square().sum(), inputs),
        torch.autograd.grad(module(x).square().sum(), inputs),
    ):
        torch.testing.assert_close(found, expected)
