"""Time and memory of structure-aware attention and its rivals, on synthetic maps.

Every measurement goes into RESULTS.json at once; what is there already is not
measured again. RESULTS.csv and RESULTS.png are made from it.
"""

import argparse
import math
import statistics
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from lisa_mm.analysis import interleaved_times, peak_memory
from lisa_mm.analysis.benchmark import (
    add_results,
    describe_environment,
    markdown_table,
    parse_size,
    read_results,
    write_csv,
)
from lisa_mm.ops import structure_aware_attention
from lisa_mm.ops._choice import count_work
from lisa_mm.ops._operators import attend, prepare_table
from lisa_mm.visualization.style import series_style

GRIDS = '14x14 28x28 56x56 112x112 200x336 512x512'
# Shapes to calibrate impl='auto' on: heads, channels of a head, patterns; as backbones have them.
HEADS = ((2, 32, 4), (8, 8, 1), (4, 16, 2), (16, 16, 2))
SMALL_GRIDS = ((4, 4), (7, 7), (10, 10), (14, 14), (17, 24), (28, 28))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('results', type=Path, nargs='?', help='RESULTS.json, added to if it exists')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--grids',
        type=parse_size,
        nargs='+',
        default=[parse_size(grid) for grid in GRIDS.split()],
        metavar='HxW',
        help=f'{GRIDS} by default',
    )
    parser.add_argument('--batches', type=int, nargs='+', default=[1], help='1 by default')
    parser.add_argument('--channels', type=int, default=64, help='of all heads; 64 by default')
    parser.add_argument('--heads', type=int, default=2, help='2 by default')
    parser.add_argument('--patterns', type=int, default=4, help='4 by default')
    parser.add_argument('--radius', type=int, default=27, help='half extent; 27 by default')
    parser.add_argument('--boundary', choices=['zero', 'circular'], default='zero')
    parser.add_argument('--repeats', type=int, default=5, help='5 by default')
    parser.add_argument(
        '--budget',
        type=float,
        default=10,
        help='seconds after which a contestant is not repeated; 10 by default',
    )
    parser.add_argument(
        '--max-pairs',
        type=float,
        default=2e9,
        help='contestants that are quadratic in the positions are left out, and extrapolated in '
        'the table, beyond this many pairs of them in all heads and samples; 2e9 by default',
    )
    parser.add_argument(
        '--calibrate',
        action='store_true',
        help="measure what impl='auto' decides by instead, and print COSTS for lisa_mm/ops/"
        '_choice.py',
    )
    return parser.parse_args()


def split_heads(maps):
    """(B, G, c, H, W) to (B, G, N, c), the layout of softmax attention."""
    return maps.flatten(3).transpose(2, 3).contiguous()


def window_attention(query, key, value, size=7):
    """Softmax attention within windows; (B, G, H, W, c)."""
    height, width = query.shape[2:4]

    def partition(x):
        x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
        x = x.unflatten(3, (-1, size)).unflatten(2, (-1, size))
        return x.permute(0, 2, 4, 1, 3, 5, 6).flatten(4, 5)

    out = F.scaled_dot_product_attention(*map(partition, (query, key, value)))
    out = out.unflatten(4, (size, size)).permute(0, 3, 1, 4, 2, 5, 6)
    return out.flatten(4, 5).flatten(2, 3)[:, :, :height, :width]


def efficient_attention(query, key, value):
    """Linear attention by a context matrix (arXiv 1812.01243); (B, G, N, c)."""
    context = key.softmax(2).transpose(2, 3) @ value
    return query.softmax(3) @ context


def global_filter(value, weight):
    """A learned filter in the Fourier domain (arXiv 2107.00645); (B, C, H, W)."""
    spectrum = torch.fft.rfft2(value, norm='ortho') * torch.view_as_complex(weight)
    return torch.fft.irfft2(spectrum, s=value.shape[-2:], norm='ortho')


def unfused(query, key, value, encoder, decoder, boundary):
    """Structure-aware attention by the book: all patterns of all channels at once."""
    grid = query.shape[-2:]
    radius = encoder.shape[-1] // 2
    size = grid if boundary == 'circular' else [n + radius for n in grid]

    def contexts(x, table):
        # the table mirrored, with its middle rolled to the origin
        table = table.flip(2, 3)
        wrapped = torch.zeros(*table.shape[:2], *size, dtype=table.dtype, device=table.device)
        cells = torch.arange(-radius, radius + 1, device=table.device)
        rows, columns = cells % size[0], cells % size[1]
        for i, row in enumerate(rows.tolist()):
            wrapped[:, :, row].index_add_(-1, columns, table[:, :, i])
        spectrum = torch.fft.rfft2(x, s=size).unsqueeze(3) * torch.fft.rfft2(wrapped).unsqueeze(1)
        return torch.fft.irfft2(spectrum, s=size)[..., : grid[0], : grid[1]]

    patterns = (query.unsqueeze(3) * contexts(key, encoder)).sum(2)
    return (patterns.unsqueeze(2) * contexts(value, decoder)).sum(3)


def make_contestants(args, batch, grid):
    """Return functions of no argument, by name, and the tensors that want gradients, each."""
    torch.manual_seed(0)

    def random(*shape):
        return torch.randn(shape, device=args.device)

    heads, tokens = args.heads, grid[0] * grid[1]
    query, key, value = random(3, batch, heads, args.channels // heads, *grid).unbind()
    extent = 2 * args.radius + 1
    encoder, decoder = random(2, heads, args.patterns, extent, extent).unbind()
    maps = [split_heads(x) for x in (query, key, value)]
    rows = [x.unflatten(2, grid).contiguous() for x in maps]
    flat = value.flatten(1, 2).contiguous()
    weight = random(args.channels, grid[0], grid[1] // 2 + 1, 2)
    ours = query, key, value, encoder, decoder

    contestants = {
        'softmax': (F.scaled_dot_product_attention, maps),
        'window 7x7': (window_attention, rows),
        'efficient': (efficient_attention, maps),
        'global filter': (global_filter, (flat, weight)),
        'LiSA unfused': (lambda *x: unfused(*x, args.boundary), ours),
    }
    for impl in ('dense', 'fft', 'auto'):
        contestants[f'LiSA {impl}'] = (
            lambda *x, impl=impl: structure_aware_attention(*x, args.boundary, impl),
            ours,
        )
    pairs = tokens**2 * batch * heads
    if pairs > args.max_pairs:
        del contestants['softmax']
    if pairs * args.patterns > args.max_pairs / 4:
        del contestants['LiSA dense']
    return contestants


def prepared_attention(args, query, key, value, encoder, decoder):
    """LiSA as a module in evaluation computes it: with tables made ready before."""
    encoder, decoder = (
        prepare_table(table, maps, args.boundary, 'auto', torch.float32)
        for table, maps in ((encoder, key), (decoder, value))
    )
    return lambda: attend(query, key, value, encoder, decoder)


def measure(args, batch, grid, direction):
    """Return one row per contestant."""
    contestants = make_contestants(args, batch, grid)
    functions = {}
    with torch.no_grad():
        for name, (function, tensors) in contestants.items():
            if direction == 'forward':
                functions[name] = lambda function=function, tensors=tensors: function(*tensors)
                continue
            leaves = [tensor.detach().requires_grad_() for tensor in tensors]
            grad = torch.randn_like(function(*tensors))

            def train(function=function, leaves=leaves, grad=grad):
                with torch.enable_grad():
                    out = function(*leaves)
                return out, torch.autograd.grad(out, leaves, grad)

            functions[name] = train
        if direction == 'forward':
            functions['LiSA prepared'] = prepared_attention(args, *contestants['LiSA auto'][1])
        times = interleaved_times(functions, args.device, args.repeats, args.budget)
        return [
            dict(
                name=name,
                seconds=statistics.median(seconds),
                spread=[min(seconds), max(seconds)],
                peak_bytes=peak_memory(functions[name], args.device),
            )
            for name, seconds in times.items()
        ]


def settings_of(args):
    names = 'channels', 'heads', 'patterns', 'radius', 'boundary'
    return {name: getattr(args, name) for name in names}


def run(args):
    rows = read_results(args.results)
    setting = {**describe_environment(args.device), **settings_of(args)}
    jobs = [
        (batch, grid, direction)
        for batch in args.batches
        for grid in args.grids
        for direction in ('forward', 'forward + backward')
    ]
    for done, (batch, grid, direction) in enumerate(jobs):
        job = dict(setting, batch=batch, grid=list(grid), direction=direction)
        if any(job.items() <= row.items() for row in rows):
            continue
        print(f'{done + 1}/{len(jobs)} batch {batch}, {grid[0]}x{grid[1]}, {direction}', flush=True)
        found = measure(args, batch, grid, direction)
        rows = add_results(args.results, [{**job, **row} for row in found])
    return [row for row in rows if setting.items() <= row.items()], rows


def growth(rows, name, batch, key):
    """Fit the exponent of N in time or memory, from 56x56 up."""
    points = [
        (math.log(math.prod(row['grid'])), math.log(row[key]))
        for row in rows
        if row['name'] == name and row['batch'] == batch and math.prod(row['grid']) >= 56**2
    ]
    if len(points) < 2:
        return math.nan
    return np.polyfit(*zip(*points), 1)[0]


def print_tables(rows):
    """Print Markdown: milliseconds, the ratio to softmax attention, and growth."""
    names = list(dict.fromkeys(row['name'] for row in rows))
    for direction in ('forward', 'forward + backward'):
        for batch in sorted({row['batch'] for row in rows}):
            chosen = [r for r in rows if r['direction'] == direction and r['batch'] == batch]
            grids = sorted({tuple(row['grid']) for row in chosen}, key=math.prod)
            seconds = {(r['name'], tuple(r['grid'])): r['seconds'] for r in chosen}
            measured = [grid for grid in grids if ('softmax', grid) in seconds]
            print(f'\n{direction}, batch {batch}: ms (times as fast as softmax attention)\n')
            lines = []
            for name in names:
                cells = []
                for grid in grids:
                    if (name, grid) not in seconds:
                        cells.append('')
                        continue
                    cell = f'{seconds[name, grid] * 1e3:.3g}'
                    if measured:
                        # beyond what fits, softmax attention grows with the square of N
                        base = grid if grid in measured else measured[-1]
                        ratio = (math.prod(grid) / math.prod(base)) ** 2
                        softmax = seconds['softmax', base] * ratio
                        mark = '' if grid in measured else '*'
                        cell += f' ({softmax / seconds[name, grid]:.3g}{mark})'
                    cells.append(cell)
                exponents = [growth(chosen, name, batch, key) for key in ('seconds', 'peak_bytes')]
                cells.append(', '.join('' if math.isnan(e) else f'{e:.2f}' for e in exponents))
                if any(cells[:-1]):
                    lines.append([name, *cells])
            header = ['', *(f'{height}x{width}' for height, width in grids), 'growth, memory']
            print(markdown_table(header, lines))
    print('\n\\* softmax attention extrapolated from the largest grid measured')


def plot(rows, path):
    """Draw time and memory against N, both logarithmic."""
    batch = min(row['batch'] for row in rows)
    rows = [row for row in rows if row['batch'] == batch]
    figure = Figure(figsize=(12, 4.6), layout='constrained')
    panels = (
        ('forward', 'seconds', 'forward: seconds'),
        ('forward + backward', 'seconds', 'forward + backward: seconds'),
        ('forward + backward', 'peak_bytes', 'forward + backward: peak bytes'),
    )
    names = list(dict.fromkeys(row['name'] for row in rows))
    for axes, (direction, key, title) in zip(figure.subplots(1, 3), panels):
        for i, name in enumerate(names):
            points = sorted(
                (math.prod(row['grid']), row[key])
                for row in rows
                if row['name'] == name and row['direction'] == direction
            )
            if points:
                axes.loglog(*zip(*points), ms=4, lw=1.3, label=name, **series_style(i))
        axes.set(title=title, xlabel='positions N')
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    row = rows[0]
    figure.suptitle(
        f'{row["device"]}, batch {batch}, {row["channels"]} channels in {row["heads"]} heads, '
        f'{row["patterns"]} patterns, half extent {row["radius"]}, {row["boundary"]}'
    )
    figure.savefig(path, dpi=110)


def calibrate(args):
    """Fit the costs of units of work, by relative error, and print them."""
    from scipy.optimize import nnls

    work, seconds = {'dense': [], 'fft': []}, {'dense': [], 'fft': []}
    cases = [
        (boundary, batch, grid, heads)
        for boundary in ('zero', 'circular')
        for batch in (1, 8)
        for grid in SMALL_GRIDS
        for heads in HEADS
    ]
    for done, (boundary, batch, grid, (heads, channels, patterns)) in enumerate(cases):
        print(f'\r{done + 1}/{len(cases)}', end='', file=sys.stderr, flush=True)
        query, key, value = torch.randn(
            3, batch, heads, channels, *grid, device=args.device
        ).unbind()
        encoder, decoder = torch.randn(2, heads, patterns, 27, 27, device=args.device)
        functions = {
            impl: lambda impl=impl, x=(query, key, value, encoder, decoder), boundary=boundary: (
                structure_aware_attention(*x, boundary, impl)
            )
            for impl in work
        }
        with torch.no_grad():
            times = interleaved_times(functions, args.device, args.repeats)
        counts = count_work(key.shape, encoder.shape, boundary)
        for impl in work:
            work[impl].append(counts[impl])
            seconds[impl].append(statistics.median(times[impl]) / 2)  # of half the operator
    found, predicted = {}, {}
    for impl in work:
        units = torch.tensor(work[impl], dtype=torch.float64)
        nanoseconds = torch.tensor(seconds[impl], dtype=torch.float64) * 1e9
        costs, _ = nnls((units / nanoseconds[:, None]).numpy(), torch.ones(len(units)).numpy())
        found[impl] = tuple(float(f'{cost:.3g}') for cost in costs)
        predicted[impl] = units @ torch.tensor(costs)
    pick_dense = predicted['dense'] < predicted['fft']
    dense, fft = (torch.tensor(seconds[impl]) for impl in ('dense', 'fft'))
    loss = torch.where(pick_dense, dense, fft) / torch.minimum(dense, fft)
    print(f'\n{args.device}: {found}')
    print(
        f'time of the choice over that of the better: mean {loss.mean():.3f}, max {loss.max():.2f}'
    )
    for case, ratio in zip(cases, loss.tolist()):
        if ratio > 1.25:
            print(f'{ratio:.2f} times the better: {case}')


def main():
    args = parse_args()
    if args.channels % args.heads:
        sys.exit(f'--channels must be a multiple of --heads, got {args.channels} and {args.heads}')
    if args.calibrate:
        calibrate(args)
        return
    if args.results is None or args.results.suffix != '.json':
        sys.exit(f'the results go into a .json file, got {args.results}')
    own, rows = run(args)
    print_tables(own)
    write_csv(args.results.with_suffix('.csv'), rows)
    plot(own, args.results.with_suffix('.png'))


if __name__ == '__main__':
    main()
