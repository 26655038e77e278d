"""Reading weights from checkpoints: as weights only, and not without a word on what fits."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import os.path as osp
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

SCHEMES = ('http://', 'https://')
# Beside weights, MMEngine's checkpoints hold histories of the losses; without a list of what to
# let through, PyTorch reads published files only.
HAS_SAFE_GLOBALS = hasattr(torch.serialization, 'add_safe_globals')  # PyTorch 2.4


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or is not for the model."""


def load_checkpoint(
    filename: str, map_location: str | torch.device | None = 'cpu'
) -> dict[str, Any]:
    """Read a checkpoint as weights only, so that no code in it is run.

    Beside tensors and plain Python objects only what MMEngine writes into the
    checkpoints of a training is let through, arrays and histories of losses;
    before PyTorch 2.4 not even that, so that there only published files can be
    read.

    Args:
        filename: A file, or an address that starts with ``http``; that is
            downloaded once, into PyTorch's cache.
        map_location: Where the tensors go. Defaults to ``'cpu'``.

    Returns:
        dict: What the file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it cannot be downloaded or read: it is no
            checkpoint, incomplete, or holds objects that are not weights.

    Example:
        >>> import os, tempfile, torch
        >>> from lisa_mm.utils.checkpoint import load_checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, 'weights.pth')
        ...     torch.save(dict(state_dict=dict(weight=torch.ones(2))), path)
        ...     load_checkpoint(path)
        {'state_dict': {'weight': tensor([1., 1.])}}
    """
    path = _download(filename) if filename.startswith(SCHEMES) else osp.expanduser(filename)
    if not osp.isfile(path):
        raise FileNotFoundError(f'there is no checkpoint file {filename}')
    try:
        with _allowed_globals():
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # of many kinds, where the file is not what it should be
        name = r'unsupported (?:global: )?(?:global|class|attribute) ([\w.]+)'
        refused = re.search(name, str(error), re.IGNORECASE)
        if refused:
            raise CheckpointError(
                f'{filename} holds {refused[1]}, which is no weight: reading it could run code of '
                'whoever made the file. If it is your own, take the weights out of it with '
                'tools/model_converters/publish_model.py --trust'
            ) from error
        # PyTorch's own words advise to read the file without any care
        raise CheckpointError(
            f'{filename} is no checkpoint of weights, or an incomplete one'
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{filename} must hold a dict of weights, it holds a {type(checkpoint).__name__}'
        )
    return checkpoint


def state_dict_of(checkpoint: dict[str, Any], prefix: str = '') -> OrderedDict[str, Tensor]:
    """Return the weights of a checkpoint, or of one part of its model.

    Args:
        checkpoint: What :func:`load_checkpoint` returns: the weights, or a dict
            with them as ``'state_dict'`` (OpenMMLab) or ``'model'`` (others).
        prefix: Start of the names that are wanted; it is taken off. Defaults
            to ``''``.

    Returns:
        OrderedDict[str, Tensor]: The weights, with the versions of the modules
        that they were saved by.
    """
    weights = checkpoint
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), dict):
            weights = checkpoint[key]
            break
    prefix = prefix and prefix.rstrip('.') + '.'

    def strip(name: str) -> str | None:
        name = name.removeprefix('module.')  # of a model that was saved in its wrapper
        return name.removeprefix(prefix) if name.startswith(prefix) else None

    found = OrderedDict(
        (strip(name), value)
        for name, value in weights.items()
        if isinstance(value, Tensor) and strip(name) is not None
    )
    # keys of modules have no dot at their end, and '' is the model
    metadata = getattr(weights, '_metadata', {})
    found._metadata = OrderedDict(
        (strip(f'{name}.').rstrip('.'), value)
        for name, value in metadata.items()
        if strip(f'{name}.') is not None
    )
    return found


@dataclass(frozen=True)
class Match:
    """How weights and a module go together: numbers of tensors, by their names.

    Args:
        loaded: In both, of the same shape or resized.
        resized: Of these, tables of another extent, see :func:`is_resizable`.
        missing: In the module only: they stay as they are.
        unexpected: In the weights only: they are left out.
        misfits: In both, of shapes that do not fit.
    """

    loaded: int
    resized: int
    missing: int
    unexpected: int
    misfits: int

    def __str__(self) -> str:
        line = (
            f'{self.loaded} tensors loaded ({self.resized} of them resized), '
            f'{self.missing} missing, {self.unexpected} unexpected'
        )
        return line + (f', {self.misfits} of another shape' if self.misfits else '')


def is_resizable(name: str, old: Tensor, new: Tensor) -> bool:
    """Whether a tensor is a table that the attention carries over to another extent.

    Args:
        name: Its name: ``rpe_...`` for the position embeddings of
            structure-aware attention, ``filter`` for a global filter.
        old: The tensor, (G, P, 2*ry+1, 2*rx+1) or (C, H, W // 2 + 1, 2).
        new: What it would be loaded into.
    """
    if not old.dim() == new.dim() == 4 or old.shape == new.shape:
        return False
    last = name.rpartition('.')[2]
    if last == 'filter':
        return old.shape[::3] == new.shape[::3]
    return last.startswith('rpe_') and old.shape[:2] == new.shape[:2]


def find_misfits(module: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """List the weights that a module has in another shape, and does not resize."""
    own = module.state_dict()
    return [
        name
        for name, value in weights.items()
        if name in own
        and own[name].shape != value.shape
        and not is_resizable(name, value, own[name])
    ]


def match_weights(module: nn.Module, weights: dict[str, Tensor]) -> Match:
    """Compare the names and shapes of weights with those of a module."""
    own = module.state_dict()
    common = own.keys() & weights.keys()
    misfits = len(find_misfits(module, weights))
    return Match(
        loaded=len(common) - misfits,
        resized=sum(is_resizable(name, weights[name], own[name]) for name in common),
        missing=len(own.keys() - common),
        unexpected=len(weights.keys() - common),
        misfits=misfits,
    )


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside of wrappers, for distributed training or augmentation in tests."""
    while hasattr(model, 'module'):
        model = model.module
    return model


def check_weights(model: nn.Module, checkpoint: dict[str, Any]) -> Match:
    """Refuse a checkpoint that has nothing to do with a model.

    Args:
        model: The model, perhaps wrapped for distributed training.
        checkpoint: What MMEngine would load into it, not what might be found.

    Returns:
        Match: How they go together.

    Raises:
        CheckpointError: If nothing fits, or less than what does not.
    """
    model = unwrap(model)
    weights = state_dict_of(dict(state_dict=checkpoint.get('state_dict', checkpoint)))
    match = match_weights(model, weights)
    # a few misfits are as they should be: the classes of another data set
    if match.loaded <= match.misfits:
        raise CheckpointError(
            f'the checkpoint is not for this {type(model).__name__}: {match}. Its first tensor '
            f'is {next(iter(weights), None)}. Is it for another config?'
        )
    return match


def load_weights(module: nn.Module, filename: str, prefix: str = '') -> Match:
    """Load weights into a module, and log in one line what was loaded and what not.

    Tables of position embeddings of another extent are carried over by the
    attention that they belong to.

    Args:
        module: The module.
        filename: Checkpoint, see :func:`load_checkpoint`.
        prefix: Start of the names of the module's weights in it, such as
            ``'backbone.'``. Defaults to ``''``.

    Returns:
        Match: What the log line says.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it cannot be read, nothing in it is for this
            module, or tensors have a shape that does not fit.
    """
    checkpoint = load_checkpoint(filename)
    weights = state_dict_of(checkpoint, prefix)
    match = match_weights(module, weights)
    if not match.loaded and not match.misfits:
        every = state_dict_of(checkpoint)
        parts = list(dict.fromkeys(name.split('.')[0] + '.' for name in every))
        raise CheckpointError(
            f'{filename} holds nothing for {type(module).__name__}: none of its {len(weights)} '
            f'tensors with prefix {prefix!r} has the name of a weight of it. All '
            f'{len(every)} names start with one of {parts[:8]}: name the right one as prefix'
        )
    try:
        module.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise CheckpointError(
            f'{filename} does not fit {type(module).__name__}: was it made with another arch, '
            'or other options of the attention? '
            f'{len(str(error).splitlines()) - 1} errors, the first: '
            f'{str(error).splitlines()[1].strip()}'
        ) from error
    print_log(f'{type(module).__name__}, {filename}: {match}', logger='current')
    return match


def load_weights_only() -> None:
    """Let MMEngine read files and http addresses by :func:`load_checkpoint`, from now on.

    It then refuses what is not weights, whatever the defaults of its own and of
    PyTorch's version are. Not for going on with a training; and not before
    PyTorch 2.4, where the checkpoints of one's own trainings could not be read:
    there it only warns.
    """
    if HAS_SAFE_GLOBALS:
        register = CheckpointLoader.register_scheme
        register(prefixes=('', *SCHEMES), loader=load_checkpoint, force=True)
        return
    print_log(
        f'PyTorch {torch.__version__} cannot read the checkpoints of a training as weights only: '
        'load none that you do not trust',
        logger='current',
        level=logging.WARNING,
    )


def _download(url: str) -> str:
    """Download a file into PyTorch's cache, unless it is there."""
    name = osp.basename(urlparse(url).path)
    # published files have the start of their hash in their name; a date is none
    published = re.search(r'-(?=[0-9]*[a-f])([a-f0-9]{8,})\.', name)
    if not published:
        name = f'{hashlib.sha256(url.encode()).hexdigest()[:8]}_{name}'
    path = osp.join(torch.hub.get_dir(), 'checkpoints', name)
    error = None
    if int(os.environ.get('LOCAL_RANK', 0)) == 0 and not osp.isfile(path):
        os.makedirs(osp.dirname(path), exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, path, hash_prefix=published and published[1])
        except (OSError, RuntimeError) as caught:
            error = caught
    barrier()  # whatever has happened: the others wait
    if not osp.isfile(path):
        raise CheckpointError(f'{url} cannot be downloaded: {error}') from error
    return path


def _alias(function: Callable, module: str, name: str) -> Callable:
    """Return a function that stands in for another one of that name when unpickling."""

    def stand_in(*args: Any) -> Any:
        return function(*args)

    stand_in.__module__, stand_in.__name__, stand_in.__qualname__ = module, name, name
    return stand_in


def _method_of_history(owner: Any, name: str) -> Any:
    """Look up what MMEngine's histories refer to: four methods of theirs, and nothing else."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
        raise pickle.UnpicklingError(f'Unsupported attribute {name}')
    return getattr(owner, name)


@contextlib.contextmanager
def _allowed_globals() -> Iterator[None]:
    """Let through what MMEngine's checkpoints hold besides weights."""
    if not HAS_SAFE_GLOBALS:
        yield
        return
    array = np.zeros(1)
    rebuild, scalar = array.__reduce__()[0], array[0].__reduce__()[0]
    allowed = [HistoryBuffer, np.ndarray, np.dtype]
    allowed += [type(np.dtype(kind)) for kind in ('f4', 'f8', 'i4', 'i8', 'bool')]
    # the module of these two was renamed in NumPy 2, and is written into the file
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        allowed += [_alias(rebuild, module, '_reconstruct'), _alias(scalar, module, 'scalar')]
    allowed += [
        _alias(_method_of_history, module, 'getattr') for module in ('builtins', '__builtin__')
    ]
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals(allowed)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
