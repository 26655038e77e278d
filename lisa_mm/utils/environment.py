"""Checks of the installed packages: what is missing or too old, and how to mend it.

Two distributions of the OpenMMLab packages import under the same names, the
original one and a maintained fork. Either is fine, so that neither can stand in
the package's requirements; they are checked here, when something needs them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import sys
import warnings
from dataclasses import dataclass

from packaging.version import Version


@dataclass(frozen=True)
class Package:
    """A package that something here needs.

    Args:
        module: Name that it is imported by.
        floor: Oldest version that has what is used here.
        tested: Newest version that the tests have run with; later ones only
            give a warning.
        fork: Name of the maintained fork's distribution; of the only one, if
            there is no other.
        original: Name of the original distribution. Defaults to ``fork``.
    """

    module: str
    floor: str
    tested: str
    fork: str
    original: str | None = None

    @property
    def distributions(self) -> tuple[str, ...]:
        """Names that the package may be installed under."""
        return (self.fork, self.original) if self.original else (self.fork,)

    @property
    def name(self) -> str:
        """Distribution to install: of the original set where that is in use."""
        if self.original and _version_of('mmengine') and not _version_of('onedl-mmengine'):
            return self.original
        return self.fork

    @property
    def install_command(self) -> str:
        """The pip command that installs or upgrades it."""
        if self.module == 'mmcv':
            # MMDetection 3.3.0 and MMSegmentation 1.2.2 refuse the original mmcv 2.2.0
            name = self.name if self.name == self.fork else '"mmcv>=2.1.0,!=2.2.0"'
            return (
                'pip install "setuptools>=80,<81" wheel ninja psutil packaging && '
                f'pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps '
                f'{name}'
            )
        return f'pip install --upgrade {self.name}'


PACKAGES = {
    package.module: package
    for package in (
        Package('torch', '2.1', '2.11', 'torch'),
        Package('mmengine', '0.10.7', '0.10.12', 'onedl-mmengine', 'mmengine'),
        Package('mmcv', '2.1.0', '2.3.6', 'onedl-mmcv', 'mmcv'),
        Package('mmdet', '3.3.0', '3.5.1', 'onedl-mmdetection', 'mmdet'),
        Package('mmseg', '1.2.2', '1.4.2', 'onedl-mmsegmentation', 'mmsegmentation'),
        Package('mmpretrain', '1.2.0', '1.3.6', 'onedl-mmpretrain', 'mmpretrain'),
    )
}
CODEBASES = ('mmdet', 'mmseg', 'mmpretrain')


@functools.cache
def check_foundation() -> None:
    """Check what the operator and the backbones need: torch and MMEngine.

    Raises:
        ImportError: If one is missing or too old; the message says what to
            install.
    """
    check_package('torch')
    check_package('mmengine')


def check_codebase(module: str) -> None:
    """Check one of the OpenMMLab codebases, and MMCV with its operators.

    Args:
        module: ``'mmdet'``, ``'mmseg'`` or ``'mmpretrain'``.

    Raises:
        ImportError: If something is missing or too old, or MMCV has no
            compiled operators; the message says what to install.
    """
    check_package('mmcv')
    check_package(module)
    try:
        importlib.import_module('mmcv._ext')
    except ImportError as error:
        raise ImportError(
            'mmcv is installed without its compiled operators, or they were compiled against '
            f'another torch ({error}). Build them against the torch that is installed: '
            f'{PACKAGES["mmcv"].install_command}'
        ) from error


def check_package(module: str) -> None:
    """Check that a package is there and not too old.

    A version beyond the tested ones gives a warning, never an error.

    Args:
        module: Name that it is imported by, a key of ``PACKAGES``.

    Raises:
        ImportError: If it is missing or too old; the message says what to
            install.
    """
    package = PACKAGES[module]
    version = _installed_version(package)
    if version is None:
        raise ImportError(f'{module} is not installed. Install it: {package.install_command}')
    if Version(version) < Version(package.floor):
        raise ImportError(
            f'{module} {version} is too old: lisa_mm needs {package.floor} or later. '
            f'Upgrade it: {package.install_command}'
        )
    # tested up to the last digit given: 2.11.1 is 2.11
    digits = len(Version(package.tested).release)
    if Version(version).release[:digits] > Version(package.tested).release:
        warnings.warn(
            f'{module} {version} is later than {package.tested}, the latest that lisa_mm has '
            'been tested with',
            stacklevel=2,
        )


def _installed_version(package: Package) -> str | None:
    for distribution in package.distributions:
        version = _version_of(distribution)
        if version:
            return version
    # a source tree on the path, without metadata
    if package.module not in sys.modules and not importlib.util.find_spec(package.module):
        return None
    return importlib.import_module(package.module).__version__


def _version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
