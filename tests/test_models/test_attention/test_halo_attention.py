import pytest
import torch

from lisa_mm.models import HaloAttention


@pytest.mark.parametrize('grid', [(1, 1), (4, 4), (5, 7), (3, 8)])
def test_is_attention_to_blocks_and_halos(grid):
    torch.manual_seed(0)
    block, halo = 3, 1
    module = HaloAttention(8, 2, block_size=block, halo_size=halo).double()
    x = torch.randn(1, 8, *grid, dtype=torch.float64)
    maps = torch.einsum('oc,cyx->oyx', module.qkv.weight[:, :, 0, 0], x[0])
    maps = maps + module.qkv.bias[:, None, None]
    query, key, value = maps.view(3, 2, 4, *grid).unbind()
    out = torch.zeros(2, 4, *grid, dtype=torch.float64)
    for g in range(2):
        for y in range(grid[0]):
            for x_n in range(grid[1]):
                rows, columns = (
                    range(
                        max(0, at // block * block - halo),
                        min(size, at // block * block + block + halo),
                    )
                    for at, size in ((y, grid[0]), (x_n, grid[1]))
                )
                places = [(v, u) for v in rows for u in columns]
                logits = []
                for v, u in places:
                    # offsets start at 1 - block - halo
                    position = module.rpe_rows[v - y + 3] + module.rpe_columns[u - x_n + 3]
                    logits.append(query[g, :, y, x_n] @ (key[g, :, v, u] + position) / 2)
                weights = torch.stack(logits).softmax(0)
                seen = torch.stack([value[g, :, v, u] for v, u in places])
                out[g, :, y, x_n] = weights @ seen
    torch.testing.assert_close(module(x), module.proj(out.view_as(x)))


def test_bad_arguments():
    with pytest.raises(ValueError, match='block_size must be an integer of at least 1, got 0'):
        HaloAttention(8, 2, block_size=0)
    with pytest.raises(ValueError, match='halo_size must be an integer of at least 0, got -1'):
        HaloAttention(8, 2, halo_size=-1)
