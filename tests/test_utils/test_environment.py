import importlib
import importlib.metadata
import importlib.util
import sys

import pytest

from lisa_mm.utils import environment
from lisa_mm.utils.environment import PACKAGES, check_codebase, check_foundation, check_package


@pytest.fixture
def versions(monkeypatch):
    """Pretend that exactly the distributions in the returned dict are installed."""
    found = {}

    def version(name):
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(environment.importlib.metadata, 'version', version)
    monkeypatch.setattr(environment.importlib.util, 'find_spec', lambda name: None)
    for module in PACKAGES:
        monkeypatch.delitem(sys.modules, module, raising=False)
    return found


def test_what_is_installed_here_passes():
    check_foundation()
    for codebase in environment.CODEBASES:
        check_codebase(codebase)


@pytest.mark.parametrize(
    ('installed', 'command'),
    [
        ({}, 'pip install --upgrade onedl-mmsegmentation'),
        ({'onedl-mmengine': '0.10.12'}, 'pip install --upgrade onedl-mmsegmentation'),
        ({'mmengine': '0.10.7'}, 'pip install --upgrade mmsegmentation'),
    ],
)
def test_missing_package(versions, installed, command):
    versions.update(installed)
    with pytest.raises(ImportError) as error:
        check_package('mmseg')
    assert str(error.value) == f'mmseg is not installed. Install it: {command}'


def test_mmcv_is_built_without_isolation(versions):
    assert PACKAGES['mmcv'].install_command.endswith('--no-deps onedl-mmcv')
    versions['mmengine'] = '0.10.7'
    assert PACKAGES['mmcv'].install_command.endswith('--no-deps "mmcv>=2.1.0,!=2.2.0"')


@pytest.mark.parametrize(
    ('distribution', 'version', 'command'),
    [('mmdet', '2.28.0', 'pip install --upgrade'), ('onedl-mmdetection', '3.2.9', 'onedl-mm')],
)
def test_too_old_package(versions, distribution, version, command):
    versions[distribution] = version
    message = f'mmdet {version} is too old: lisa_mm needs 3.3.0 or later.*{command}'
    with pytest.raises(ImportError, match=message):
        check_package('mmdet')


def test_newer_than_tested_is_a_warning(versions):
    versions['torch'] = '9.1.0'
    with pytest.warns(UserWarning, match='torch 9.1.0 is later than'):
        check_package('torch')


def test_local_and_patch_versions_are_as_tested(versions, recwarn):
    for version in ('2.1.2', '2.11.0+cu130', '2.11.3'):
        versions['torch'] = version
        check_package('torch')
    assert not recwarn


def test_mmcv_without_its_operators(monkeypatch):
    def import_module(name):
        if name == 'mmcv._ext':
            raise ModuleNotFoundError("No module named 'mmcv._ext'")
        return real(name)

    real = importlib.import_module
    monkeypatch.setattr(environment.importlib, 'import_module', import_module)
    with pytest.raises(ImportError) as error:
        check_codebase('mmdet')
    message = str(error.value)
    assert 'mmcv is installed without its compiled operators' in message
    assert 'pip install --no-build-isolation' in message
