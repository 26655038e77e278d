import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lisa_mm.ops import correlate, extend_table, interpolate_table, seen_energy


def test_extend_keeps_the_weight_of_every_offset():
    table = torch.randn(2, 3, 5, 7)
    larger = extend_table(table, (4, 5))
    assert larger.shape == (2, 3, 9, 11)
    torch.testing.assert_close(larger[:, :, 2:7, 2:9], table)
    assert larger.abs().sum() == pytest.approx(table.abs().sum().item())
    torch.testing.assert_close(extend_table(larger, (2, 3)), table)
    torch.testing.assert_close(extend_table(table, (1, 4))[:, :, :, 1:-1], table[:, :, 1:-1])


def test_interpolate_by_one_is_extend():
    table = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(interpolate_table(table, (1, 1), (2, 3)), table)
    other = interpolate_table(table, (1, 1), (1, 5))
    torch.testing.assert_close(other, extend_table(table, (1, 5)))


@pytest.mark.parametrize('stretch', [(2, 3), (0.5, 0.5), (1.7, 0.6), (1, 4)])
def test_interpolate_keeps_the_response_to_a_constant(stretch):
    torch.manual_seed(0)
    # mixed sign, so that the sum is small beside the entries; zero at the ends,
    # so that nothing is cut off
    table = extend_table(torch.randn(1, 4, 9, 9, dtype=torch.float64), (10, 10))
    radius = [round(11 * factor) for factor in stretch]
    stretched = interpolate_table(table, stretch, radius)
    assert stretched.shape[2:] == tuple(2 * r + 1 for r in radius)
    error = (stretched.sum((2, 3)) - table.sum((2, 3))).abs().max()
    # exact for whole factors; otherwise the samples of a hat do not sum to one exactly
    exact = all(float(f).is_integer() or (1 / f).is_integer() for f in stretch)
    assert error < (1e-12 if exact else 0.05 * table.abs().sum((2, 3)).max())


def test_interpolated_table_sees_the_same_part_of_a_larger_image():
    # A smooth map and table, twice as fine: the response at corresponding positions agrees.
    def gaussian(radius, sigma):
        axis = torch.arange(-radius, radius + 1, dtype=torch.float64)
        bump = (-(axis**2) / (2 * sigma**2)).exp()
        return torch.outer(bump, bump)

    table = gaussian(8, 2.0).view(1, 1, 17, 17)
    fine = interpolate_table(table, (2, 2), (16, 16))
    response = correlate(gaussian(12, 4.0).view(1, 1, 1, 25, 25), table)
    fine_response = correlate(gaussian(24, 8.0).view(1, 1, 1, 49, 49), fine)
    torch.testing.assert_close(
        fine_response[..., ::2, ::2], response, rtol=0, atol=0.03 * response.max().item()
    )


def test_interpolates_in_float32():
    torch.manual_seed(0)
    table = torch.randn(1, 2, 55, 55)
    stretch, radius = (200 / 56, 334 / 56), (96, 161)
    expected = interpolate_table(table, stretch, radius)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(interpolate_table(table, stretch, radius), expected)
    half = table.bfloat16()
    expected = interpolate_table(half.float(), stretch, radius).bfloat16()
    assert torch.equal(interpolate_table(half, stretch, radius), expected)


def test_gradients():
    table = torch.randn(1, 2, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: interpolate_table(t, (1.5, 0.6), (2, 1)), table)
    assert torch.autograd.gradcheck(lambda t: extend_table(t, (2, 1)), table)


@pytest.mark.parametrize(
    ('function', 'args', 'message'),
    [
        (extend_table, (torch.zeros(2, 2, 4, 3), (1, 1)), r'table must have an odd extent'),
        (extend_table, (torch.zeros(2, 3, 3), (1, 1)), r'table must have shape \(G, P'),
        (extend_table, (torch.zeros(1, 1, 3, 3), (-1, 1)), r'radius must be.*got \(-1, 1\)'),
        (interpolate_table, (torch.zeros(1, 1, 3, 3), (0, 1), (1, 1)), r'stretch.*got \(0, 1\)'),
    ],
)
def test_bad_input(function, args, message):
    with pytest.raises(ValueError, match=message):
        function(*args)


@settings(max_examples=30, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    radius=st.tuples(st.integers(0, 6), st.integers(0, 6)),
)
def test_seen_energy_is_that_of_the_entries_on_the_grid(grid, radius):
    torch.manual_seed(0)
    table = torch.randn(2, 3, *(2 * r + 1 for r in radius), dtype=torch.float64)
    ones = torch.ones(1, 2, 1, *grid, dtype=torch.float64)
    expected = reference.correlate(ones, table.square(), 'zero')[0, :, 0]
    expected = expected / table.square().sum((2, 3), keepdim=True)
    torch.testing.assert_close(seen_energy(table, grid), expected)


def test_seen_energy_of_other_dtypes_and_of_nothing():
    table = torch.randn(1, 2, 5, 5)
    expected = seen_energy(table, (3, 4))
    found = seen_energy(table.half(), (3, 4))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)
    assert seen_energy(torch.zeros(1, 2, 5, 5), (3, 4)).tolist() == torch.zeros(1, 2, 3, 4).tolist()
    with pytest.raises(ValueError, match='table must have shape .G, P, '):
        seen_energy(torch.zeros(5, 5), (3, 4))
