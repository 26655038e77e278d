# Copyright (c) The lisa_mm authors.
"""Packaging; a wheel also carries configs/ and tools/, as lisa_mm/.mim/{configs,tools}."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def read_version():
    """Read the version without importing the package."""
    text = (ROOT / 'lisa_mm' / 'version.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE).group(1)


def read_requirements(name):
    """List the requirements in requirements/<name>.txt, without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    lines = (re.sub(r'(^|\s)#.*', '', line).strip() for line in lines)
    return [line for line in lines if line]


class BuildWithConfigs(build_py):
    """Copy configs/ and tools/ into the build.

    This hooks the build step itself and not a word in sys.argv, so that it works for every
    front end. An editable install reads both from the checkout and needs no copy.
    """

    def run(self):
        super().run()
        if getattr(self, 'editable_mode', False):
            return
        for name in ('configs', 'tools'):
            target = Path(self.build_lib, 'lisa_mm', '.mim', name)
            shutil.rmtree(target, ignore_errors=True)  # build/ may hold an earlier build's files
            if (ROOT / name).is_dir():
                # these set up a checkout: outside one they have nothing to act on
                skip = shutil.ignore_patterns(
                    '__pycache__', '*.py[cod]', 'install.sh', 'quickstart.sh'
                )
                shutil.copytree(ROOT / name, target, ignore=skip)


setup(
    name='lisa-mm',
    version=read_version(),
    description='Structure-aware attention backbones for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='The lisa_mm authors',
    license='Apache-2.0',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['lisa_mm', 'lisa_mm.*']),
    python_requires='>=3.9',
    # mmengine is missing here on purpose: two distributions provide it, pip cannot say "either",
    # and installing one over the other breaks both.
    install_requires=read_requirements('runtime'),
    extras_require={
        'tests': read_requirements('tests'),
        'optional': read_requirements('optional'),
        # The two distributions of the OpenMMLab packages; choose one. Either way install torch
        # first and mmcv with --no-build-isolation, or mmcv comes without its compiled operators.
        'onedl': read_requirements('mminstall'),
        'openmmlab': [
            'mmengine>=0.10.7',
            'mmcv>=2.1.0,!=2.2.0',  # mmdet 3.3.0 and mmsegmentation 1.2.2 refuse to load 2.2.0
            'mmdet>=3.3.0',
            'mmsegmentation>=1.2.2',
            'mmpretrain>=1.2.0',
        ],
    },
    cmdclass={'build_py': BuildWithConfigs},
    zip_safe=False,
)
