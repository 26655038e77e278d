"""Compare variants of a model: what they cost, and what they reach when trained.

With --sizes the backbones are measured: parameters, multiply-adds, time and
memory of inference and of a training step. With --data-root the models are
trained, with several seeds. Every measurement and every finished run goes into
RESULTS.json at once; what is there already is not done again, so a name has to
keep its meaning. A run that was stopped goes on from its last checkpoint in
--work-dir. Processes that train different variants may share the file. The
table (also RESULTS.csv) and the picture (RESULTS.png) are made from what it has
of this config.
"""

import argparse
import hashlib
import re
import shutil
import statistics
import sys
import time
from functools import partial
from inspect import signature
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmengine.runner import find_latest_checkpoint

from lisa_mm import __version__
from lisa_mm.analysis import matched_mlp_ratios
from lisa_mm.analysis.benchmark import (
    add_results,
    describe_environment,
    markdown_table,
    measure_jobs,
    measure_models,
    parse_size,
    read_results,
    write_csv,
)
from lisa_mm.analysis.comparison import (
    COMPARED_WITHIN,
    group_runs,
    length_of,
    set_length,
    summarise,
)
from lisa_mm.analysis.isolation import run_isolated
from lisa_mm.models import LiSA, StructureAwareAttention
from lisa_mm.ops import apply_patterns, structural_patterns
from lisa_mm.registry import MODELS
from lisa_mm.utils.cli import build_runner, one_line_errors
from lisa_mm.utils.config import check_data, load_config
from lisa_mm.visualization.style import series_style

try:
    import resource
except ImportError:  # Windows
    resource = None

CONFIGS = Path(__file__).parents[2] / 'configs'
NORMS = {
    'none': lambda x: x,
    'l2': lambda x: F.normalize(x, dim=2),
    'rms': lambda x: x / (x.square().mean((2, 3, 4), keepdim=True) + 1e-6).sqrt(),
    'softmax': lambda x: x.softmax(2),
    'gelu': F.gelu,
}


@MODELS.register_module(force=True)  # the file may be run twice in a process
class NormalisationVariant(StructureAwareAttention):
    """Structure-aware attention with other normalisations than its own.

    To be trained, not to be looked into: its kernels are other ones than those
    that it inherits.

    Args:
        query_key: That of queries and keys, a key of ``NORMS``.
        value: That of the values.
        patterns: That of the patterns.
    """

    def __init__(
        self,
        embed_dims,
        num_heads,
        num_patterns,
        rpe_radius,
        query_key='l2',
        value='none',
        patterns='none',
        init_cfg=None,
    ):
        super().__init__(embed_dims, num_heads, num_patterns, rpe_radius, init_cfg=init_cfg)
        self.norms = [NORMS[name] for name in (query_key, value, patterns)]
        if query_key != 'l2':
            # the product of two vectors of unit variance has variance dk, and not 1 / dk
            self.scale /= embed_dims // num_heads

    def attend(self, query, key, value):
        norm, norm_value, norm_patterns = self.norms
        query, key = norm(query) * self.scale, norm(key)
        patterns = structural_patterns(query, key, self.rpe_encoder, self.boundary)
        return apply_patterns(
            norm_patterns(patterns), norm_value(value), self.rpe_decoder, self.boundary
        )


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('results', type=Path, help='RESULTS.json, added to if it exists')
    parser.add_argument(
        '--config',
        default=str(CONFIGS / 'lisa_mini_custom.py'),
        help='model to vary; configs/lisa_mini_custom.py by default',
    )
    parser.add_argument(
        '--variants',
        default=str(CONFIGS / 'comparisons' / 'attention_operators.py'),
        help='config file with a dict `variants` of what each changes; '
        'configs/comparisons/attention_operators.py by default',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='changes of the config, of all variants alike',
    )
    parser.add_argument('--only', nargs='+', help='names of the variants; all by default')
    parser.add_argument(
        '--match-parameters',
        action='store_true',
        help="widen or narrow the MLPs of every variant's LiSA backbone so that it has as many "
        "parameters as the config's own",
    )
    training = parser.add_argument_group('training')
    training.add_argument('--data-root', help='folder of the data that the config wants')
    training.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='0 1 2')
    training.add_argument(
        '--metrics',
        nargs='+',
        default=['accuracy/top1'],
        help='what the evaluator calls them; accuracy/top1 by default',
    )
    length = training.add_mutually_exclusive_group()
    length.add_argument('--epochs', type=int, help='what the config says by default')
    length.add_argument('--iterations', type=int, help='the same, for a config without epochs')
    training.add_argument('--minutes', type=float, help='start no run after so many minutes')
    training.add_argument(
        '--work-dir',
        type=Path,
        default='work_dirs/compare_attention',
        help='for logs, and for the checkpoints of runs that are not finished',
    )
    cost = parser.add_argument_group('cost')
    cost.add_argument(
        '--sizes', type=parse_size, nargs='+', default=[], metavar='HxW', help='of images'
    )
    cost.add_argument('--batch', type=int, default=1, help='images at a time; 1 by default')
    cost.add_argument('--repeats', type=int, default=5, help='5 by default')
    cost.add_argument(
        '--budget', type=float, default=30, help='seconds after which nothing is repeated; 30'
    )
    args = parser.parse_args()
    if args.results.suffix != '.json':
        sys.exit(f'the results go into a .json file, got {args.results}')
    for name in ('epochs', 'iterations', 'batch', 'repeats'):
        if (value := getattr(args, name)) is not None and value < 1:
            sys.exit(f'--{name} must be at least 1, got {value}')
    return args


def load_variant(args, change):
    """Read the config and make the changes of a variant."""
    Config.fromfile(args.variants)  # for its custom_imports, which a process started afresh lacks
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    init_default_scope(cfg.default_scope)
    backbone = cfg.model.backbone.to_dict()
    cfg.merge_from_dict(change)
    if args.match_parameters:
        changed = cfg.model.backbone
        kind = MODELS.get(changed.type)
        if kind is not LiSA:
            raise ValueError(
                f'--match-parameters is for backbones of type lisa_mm.LiSA, got {changed.type}'
            )
        arch = changed.get('arch', signature(LiSA).parameters['arch'].default)
        arch = LiSA.arch_zoo[arch] if isinstance(arch, str) else arch
        changed.arch = dict(arch, mlp_ratios=matched_mlp_ratios(backbone, changed.to_dict()))
    return cfg


def find_problem(args, variants):
    """Return what is wrong with the first variant that cannot be built."""
    for name, change in variants.items():
        try:
            MODELS.build(load_variant(args, change).model)
        except Exception as error:  # whatever a part of a codebase raises, in its own words
            return f'variant {name!r}: {type(error).__name__}: {error}'
    return None


def train(args, name, change, seed):
    """Train one variant with one seed.

    Returns metrics; parameters, time and memory; and the folder that is of no use any more.
    """
    cfg = load_variant(args, change)
    cfg.randomness = dict(seed=seed)
    set_length(cfg, args.length)
    cfg.setdefault('default_hooks', {})['checkpoint'] = dict(
        type='lisa_mm.AtomicCheckpointHook',
        by_epoch=args.unit == 'epochs',
        interval=max(1, args.length // 10),
        max_keep_ckpts=1,
    )
    cfg.log_level = 'WARNING'
    work_dir = work_dir_of(args, name, seed, cfg)
    cfg.work_dir = str(work_dir)
    if (work_dir / 'last_checkpoint').exists():
        cfg.load_from, cfg.resume = find_latest_checkpoint(work_dir), True
        print(f'{name}, seed {seed}: going on from {Path(cfg.load_from).name}', flush=True)
    runner = build_runner(cfg)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    runner.train()
    scalars = runner.message_hub
    if not metrics_of(scalars):  # stopped between the last checkpoint and the evaluation
        runner.val_loop.run()
    rest = dict(
        loss=scalars.get_scalar('train/loss').current(),
        parameters=sum(parameter.numel() for parameter in runner.model.parameters()),
        epochs=args.length if args.unit == 'epochs' else None,
        iterations=runner.max_iters,
        # the first ones take longer
        seconds_per_iteration=statistics.median(scalars.get_scalar('train/time').data[0]),
        memory=peak_process_memory(),
        lisa_mm=__version__,
        **describe_environment(device()),
    )
    return metrics_of(scalars), rest, work_dir


def metrics_of(message_hub):
    """Return what the evaluator has found last."""
    return {
        name.removeprefix('val/'): scalar.current()
        for name, scalar in message_hub.log_scalars.items()
        if name.startswith('val/') and name not in ('val/time', 'val/data_time')
    }


def device():
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def peak_process_memory():
    """Return the bytes that this process has had at most, of a GPU if there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if resource is None:
        return None
    # in bytes on macOS, in KiB on Linux
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def train_missing(args, variants):
    """Train what the results lack; all variants with one seed before the next."""
    start = time.monotonic()
    # stopped early, the comparison stays fair
    jobs = [(name, seed) for seed in args.seeds for name in variants]
    for i, (name, seed) in enumerate(jobs):
        if any((row['variant'], row['seed']) == (name, seed) for row in runs_like_these(args)):
            continue
        if args.minutes is not None and time.monotonic() - start > args.minutes * 60:
            print(f'{len(jobs) - i} runs left for another time')
            break
        began = time.monotonic()
        with one_line_errors(ChildProcessError):
            # a process for each: MMEngine keeps things, and memory is that of one run
            metrics, rest, work_dir = run_isolated(train, args, name, variants[name], seed)
        run = dict(setting_of(args), variant=name, seed=seed, data=data_of(args))
        add_results(args.results, [{**run, **metrics, **rest}])
        shutil.rmtree(work_dir)
        missing = [metric for metric in args.metrics if metric not in metrics]
        if missing:
            sys.exit(
                f'{args.config} is not evaluated by {missing}; --metrics may name {list(metrics)}. '
                'The run is kept'
            )
        seconds = time.monotonic() - began
        reached = ', '.join(f'{metric} {metrics[metric]:.4g}' for metric in args.metrics)
        print(f'{i + 1}/{len(jobs)} {name}, seed {seed}: {reached} ({seconds:.0f} s)', flush=True)


def runs_like_these(args):
    """Return the runs of this version and length, on these data and this kind of machine."""
    like = {args.unit: args.length, 'device': describe_environment(device())['device']}
    like |= dict(data=data_of(args), lisa_mm=__version__)
    return [row for row in own_rows(args) if 'seed' in row and like.items() <= row.items()]


def data_of(args):
    """Return what the folder of the data is called, be it a link."""
    return Path(args.data_root).absolute().name


def work_dir_of(args, name, seed, cfg):
    """Return the folder of a run: another one for whatever would make it another run."""
    what = f'{name} {cfg.pretty_text} {describe_environment(device())} {__version__}'
    digest = hashlib.sha256(what.encode()).hexdigest()[:8]
    variant = re.sub(r'\W+', '_', name)
    return args.work_dir / Path(args.config).stem / f'{variant}_seed{seed}_{digest}'


def setting_of(args):
    """Return what all rows of this comparison have in common."""
    options = {key: str(value) for key, value in (args.cfg_options or {}).items()}
    return dict(config=Path(args.config).stem, cfg_options=options, matched=args.match_parameters)


def own_rows(args):
    """Return the rows of this comparison."""
    setting = setting_of(args)
    return [row for row in read_results(args.results) if setting.items() <= row.items()]


def measure(args, variants, job):
    """Measure the backbones of all variants in turn."""
    torch.manual_seed(0)
    images = torch.randn(args.batch, 3, *job['size'], device=device())
    models = {
        name: MODELS.build(load_variant(args, change).model.backbone).to(images.device)
        for name, change in variants.items()
    }
    rows = measure_models(models, images, job['mode'], repeats=args.repeats, budget=args.budget)
    return [{'variant': row.pop('name'), **row} for row in rows]


def cost_setting(args):
    """Return what the measurements of one table have in common."""
    return dict(setting_of(args), batch=args.batch, **describe_environment(device()))


def measure_missing(args, variants):
    """Measure what the results lack."""
    jobs = [
        dict(cost_setting(args), size=list(size), mode=mode)
        for size in args.sizes
        for mode in ('inference', 'training step')
    ]
    # in a process of its own: the runs that follow are forked, which threads must not be before
    run = partial(run_isolated, measure, args, variants)
    with one_line_errors():
        measure_jobs(args.results, jobs, variants, run, key='variant')


def print_table(table):
    """Print Markdown."""
    rows = (
        [
            '' if value is None else f'{value:.4g}' if isinstance(value, float) else str(value)
            for value in line.values()
        ]
        for line in table
    )
    print(f'\n{markdown_table(list(table[0]), rows)}')


def plot(trained, costs, table, baseline, args):
    """Draw what the variants reach, with deviations, and what they cost against the resolution."""
    rows, metrics = [*trained, *costs], args.metrics
    kinds = [
        (mode, what)
        for what in ('seconds', 'peak_bytes')
        for mode in dict.fromkeys(row['mode'] for row in costs)
    ]
    reached = [name for name in metrics if any(line.get(name) is not None for line in table)]
    # the first is drawn to stand out
    names = list(dict.fromkeys([baseline, *(row['variant'] for row in rows)]))
    number = len(reached) + len(kinds)
    columns = min(2, number)
    figure = Figure(figsize=(6.4 * columns, 4.2 * -(-number // columns)), layout='constrained')
    panels = list(figure.subplots(-(-number // columns), columns, squeeze=False).flat)
    for axes in panels[number:]:
        axes.axis('off')
    styles = {
        name: dict(series_style(i), linewidth=2.5 if i == 0 else 1.2)
        for i, name in enumerate(names)
    }
    groups = group_runs(trained, metrics)
    varying = [key for key, values in zip(COMPARED_WITHIN, zip(*groups)) if len(set(values)) > 1]
    for axes, metric in zip(panels, reached):
        lines = [line for line in table if line.get(metric) is not None][::-1]
        for height, line in enumerate(lines):
            deviation = line.get(f'{metric}, deviation') or 0
            style = dict(styles[line['variant']], linestyle='', linewidth=1)
            axes.errorbar(line[metric], height, xerr=deviation, capsize=3, **style)
            runs = groups[tuple(line.get(key) for key in COMPARED_WITHIN)][line['variant']]
            seeds = [run[metric] for run in runs.values()]
            below = height - 0.025 * len(lines)  # as far in every picture
            axes.plot(seeds, [below] * len(seeds), '.', color='0.5', markersize=4)
        labels = [
            ', '.join([line['variant'], *(f'{key} {line.get(key)}' for key in varying)])
            for line in lines
        ]
        axes.set_yticks(range(len(lines)), labels, fontsize=8)
        axes.set(title='mean, deviation and seeds', xlabel=metric)
        axes.grid(alpha=0.3, axis='x')
    for axes, (mode, what) in zip(panels[len(reached) :], kinds):
        for name in names:
            points = sorted(
                (
                    row['size'][0] * row['size'][1],
                    row[what] * (1e3 if what == 'seconds' else 2**-20),
                )
                for row in costs
                if (row['variant'], row['mode']) == (name, mode)
            )
            if points:
                axes.plot(*zip(*points), label=name, markersize=5, **styles[name])
        unit = 'time (ms)' if what == 'seconds' else 'peak memory (MiB)'
        axes.set(xscale='log', yscale='log', title=f'{mode}: {unit}', ylabel=unit)
        sizes = {row['size'][0] * row['size'][1]: row['size'] for row in costs}
        axes.set_xticks(list(sizes), [f'{height}x{width}' for height, width in sizes.values()])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter('{x:g}')
        axes.grid(alpha=0.3, which='both')
    if kinds:
        handles = panels[len(reached)].get_legend_handles_labels()
        figure.legend(*handles, loc='outside lower center', ncols=4, fontsize=8)
    devices = sorted({row['device'] for row in rows if 'device' in row})
    options = [f'{key}={value}' for key, value in (args.cfg_options or {}).items()]
    figure.suptitle(', '.join([Path(args.config).stem, *options, *devices]))
    figure.savefig(args.results.with_suffix('.png'), dpi=110)


def main():
    args = parse_args()
    if args.data_root is None and not args.sizes and not args.results.exists():
        sys.exit('nothing to do: give --sizes to measure, or --data-root to train, or both')
    if not Path(args.variants).is_file():
        sys.exit(f'there is no file {args.variants}')
    variants = Config.fromfile(args.variants).get('variants')
    if not isinstance(variants, dict):
        sys.exit(f'{args.variants} must define a dict `variants`')
    variants = variants.to_dict()
    baseline = next(iter(variants))
    unknown = [name for name in args.only or () if name not in variants]
    if unknown:
        sys.exit(f'--only must name variants out of {list(variants)}, got {unknown}')
    variants = {name: variants[name] for name in args.only or variants}
    with one_line_errors():  # here rather than in the processes of the runs
        read_results(args.results)
        cfg = load_config(args.config, args.cfg_options, args.data_root)
        if args.data_root is not None:
            check_data(cfg, ('train', 'val'))
    args.unit, args.length = length_of(cfg)
    for unit in ('epochs', 'iterations'):
        if getattr(args, unit) is not None and unit != args.unit:
            sys.exit(f'{args.config} trains by {args.unit}: give --{args.unit}, not --{unit}')
    if getattr(args, args.unit) is not None:
        args.length = getattr(args, args.unit)
    problem = run_isolated(find_problem, args, variants)
    if problem:
        sys.exit(problem)
    if args.sizes:
        measure_missing(args, variants)
    if args.data_root is not None:
        train_missing(args, variants)
    rows = own_rows(args)
    trained = [row for row in rows if 'seed' in row]
    measured = [row for row in rows if 'mode' in row]
    costs = [row for row in measured if cost_setting(args).items() <= row.items()]
    if measured and not costs:  # on another machine: what was measured last
        keys = cost_setting(args)
        costs = [row for row in measured if all(row[key] == measured[-1][key] for key in keys)]
    table = summarise(trained, costs, args.metrics, baseline)
    if table:
        print_table(table)
        write_csv(args.results.with_suffix('.csv'), table)
        plot(trained, costs, table, baseline, args)


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('stopped; called again, it goes on from here')
