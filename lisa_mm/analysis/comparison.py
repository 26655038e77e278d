"""Comparing variants of a model by what they cost, and by what they reach when trained."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

# Runs that differ in one of these are not compared with each other.
COMPARED_WITHIN = ('data', 'epochs', 'iterations', 'device', 'lisa_mm')


def length_of(cfg: Config) -> tuple[str, int]:
    """Return the unit of a training, ``'epochs'`` or ``'iterations'``, and their number."""
    if 'max_iters' in cfg.train_cfg:
        return 'iterations', cfg.train_cfg.max_iters
    return 'epochs', cfg.train_cfg.max_epochs


def set_length(cfg: Config, length: int) -> None:
    """Make a training shorter or longer, and its schedule with it; it is evaluated at the end.

    Args:
        cfg: The config, changed in place. Warm-ups stay as they are, unless they
            count in the unit of the training and there is no room for them.
        length: In the unit that :func:`length_of` says.
    """
    unit, old = length_of(cfg)
    cfg.train_cfg.update(
        {f'max_{"iters" if unit == "iterations" else unit}': length, 'val_interval': length}
    )
    cfg.train_cfg.pop('dynamic_intervals', None)
    if length == old:
        return
    schedulers = cfg.get('param_scheduler') or []
    schedulers = [schedulers] if isinstance(schedulers, dict) else schedulers
    # those that count in the other unit are warm-ups
    own = [s for s in schedulers if s.get('by_epoch', True) == (unit == 'epochs')]
    warm_ups = [s.end for s in own if not s.get('begin') and s.get('end', old) < old]
    kept = {0, *warm_ups} if max(warm_ups, default=0) < length else {0}

    def moved(time: int) -> int:
        return time if time in kept else max(1, round(time * length / old))

    for scheduler in own:
        begin, end = scheduler.get('begin', 0), scheduler.get('end', old)
        if 'T_max' in scheduler:
            whole = scheduler.T_max == end - begin
            scheduler.T_max = moved(end) - moved(begin) if whole else moved(scheduler.T_max)
        for key in ('begin', 'end', 'step_size'):
            if key in scheduler:
                scheduler[key] = moved(scheduler[key])
        if 'milestones' in scheduler:
            scheduler.milestones = [moved(time) for time in scheduler.milestones]


def group_runs(
    trained: Sequence[dict[str, Any]], metrics: Sequence[str]
) -> dict[tuple, dict[str, dict[int, dict]]]:
    """Sort runs into those that are compared with each other.

    Args:
        trained: Rows of finished runs, as for :func:`summarise`.
        metrics: Names of the metrics; runs that lack one are left out.

    Returns:
        dict[tuple, dict[str, dict[int, dict]]]: By the values of
        ``COMPARED_WITHIN`` the runs of every variant by their seeds.
    """
    groups = {}
    for row in trained:
        if all(name in row for name in metrics):
            what = tuple(row.get(key) for key in COMPARED_WITHIN)
            runs = groups.setdefault(what, {}).setdefault(row['variant'], {})
            runs[row['seed']] = row
    return groups


def summarise(
    trained: Sequence[dict[str, Any]],
    costs: Sequence[dict[str, Any]],
    metrics: Sequence[str],
    baseline: str,
) -> list[dict[str, Any]]:
    """Put results of variants together: means and spreads over the seeds, and costs.

    Args:
        trained: Rows of finished runs: ``variant``, ``seed``, ``data``,
            ``epochs``, ``iterations``, ``device``, ``lisa_mm``,
            ``parameters``, ``loss`` and the metrics.
        costs: Rows of measurements in one setting: ``variant``, ``size``,
            ``mode`` and what :func:`~lisa_mm.analysis.benchmark.measure_models`
            gives.
        metrics: Names of the metrics, the first of which sorts.
        baseline: Variant that the differences are to, of the same seeds.

    Returns:
        list[dict[str, Any]]: One row for each variant, data set, length of
        training, device and version, all with the same columns.
    """
    lines = [
        dict(
            variant=variant,
            **_describe_runs(dict(zip(COMPARED_WITHIN, what)), runs, group, metrics, baseline),
        )
        for what, group in group_runs(trained, metrics).items()
        for variant, runs in group.items()
    ]
    named = {line['variant'] for line in lines}
    lines += [
        dict(variant=name)
        for name in dict.fromkeys(row['variant'] for row in costs)
        if name not in named
    ]
    for line in lines:
        for row in costs:
            if row['variant'] == line['variant']:
                size = 'x'.join(map(str, row['size']))
                line['backbone (M)'] = row['parameters'] / 1e6
                line[f'G multiply-adds at {size}'] = row['multiply_adds'] / 1e9
                line[f'{row["mode"]} at {size} (ms)'] = row['seconds'] * 1e3
                line[f'{row["mode"]} at {size} (MiB)'] = row['peak_bytes'] / 2**20
    lines.sort(key=lambda line: -line.get(metrics[0], 0))
    # all of them with the same columns, and only those that some have
    columns = dict.fromkeys(
        name for line in lines for name, value in line.items() if value is not None
    )
    return [{name: line.get(name) for name in columns} for line in lines]


def _describe_runs(
    what: dict[str, Any],
    runs: dict[int, dict],
    group: dict[str, dict[int, dict]],
    metrics: Sequence[str],
    baseline: str,
) -> dict[str, Any]:
    """Return the columns for the runs of one variant of a group, by seed."""
    first = next(iter(runs.values()))
    line = {'parameters (M)': first['parameters'] / 1e6, **what, 'seeds': len(runs)}
    others = group.get(baseline, {})
    for name in metrics:
        line[name], line[f'{name}, deviation'] = _mean_and_deviation(
            [run[name] for run in runs.values()]
        )
        pairs = [runs[seed][name] - others[seed][name] for seed in runs if seed in others]
        if pairs and runs is not others:
            difference = f'{name}, difference to {baseline}'
            line[difference], deviation = _mean_and_deviation(pairs)
            if deviation is not None:
                line[f'{name}, standard error of the difference'] = deviation / len(pairs) ** 0.5
    line['loss of the last batch'] = statistics.mean(run['loss'] for run in runs.values())
    return line


def _mean_and_deviation(values: list[float]) -> tuple[float, float | None]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None
