"""Slow references, written from the definitions and sharing no code with the package."""

from itertools import product

import torch


def shifted(x, dy, dx, boundary):
    """Return y with y[n] = x[n + d], x being 0 outside the grid or wrapped."""
    if boundary == 'circular':
        return torch.roll(x, (-dy, -dx), (-2, -1))
    height, width = x.shape[-2:]
    y = torch.zeros_like(x)
    for row, column in product(range(height), range(width)):
        if 0 <= row + dy < height and 0 <= column + dx < width:
            y[..., row, column] = x[..., row + dy, column + dx]
    return y


def correlate(x, table, boundary):
    """Sum over the offsets of the table, one by one."""
    ry, rx = table.shape[2] // 2, table.shape[3] // 2
    out = 0
    for dy, dx in product(range(-ry, ry + 1), range(-rx, rx + 1)):
        weight = table[:, None, :, ry + dy, rx + dx, None, None]
        out = out + weight * shifted(x, dy, dx, boundary).unsqueeze(3)
    return out


def attention(query, key, value, encoder, decoder, boundary):
    """Return the patterns and the output of structure-aware attention."""
    patterns = (query.unsqueeze(3) * correlate(key, encoder, boundary)).sum(2)
    return patterns, (patterns.unsqueeze(2) * correlate(value, decoder, boundary)).sum(3)


def relative_error(found, expected):
    """Return the largest deviation relative to the largest magnitude."""
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()
