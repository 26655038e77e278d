"""What a wheel holds, built the way that pip builds it."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_wheel_holds_package_configs_and_tools(tmp_path):
    source = tmp_path / 'source'
    source.mkdir()
    for folder in ('lisa_mm', 'configs', 'tools', 'requirements'):
        shutil.copytree(ROOT / folder, source / folder)
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', str(source), '--no-deps', '--no-build-isolation']
        + ['--quiet', '--wheel-dir', str(tmp_path)],
        check=True,
    )
    (wheel,) = tmp_path.glob('lisa_mm-*.whl')
    names = set(zipfile.ZipFile(wheel).namelist())

    def expected(folder, prefix, suffixes):
        paths = [path for path in (ROOT / folder).rglob('*') if path.suffix in suffixes]
        return {prefix + path.relative_to(ROOT).as_posix() for path in paths}

    assert expected('lisa_mm', '', {'.py'}) <= names
    assert expected('configs', 'lisa_mm/.mim/', {'.py', '.md'}) <= names
    assert expected('tools', 'lisa_mm/.mim/', {'.py'}) <= names
    # launch scripts, but not those that set up a checkout
    scripts = {name.rpartition('/')[2] for name in names if name.endswith('.sh')}
    assert scripts == {'dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'}
    assert not [name for name in names if name.startswith('tests')]
