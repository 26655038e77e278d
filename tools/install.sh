#!/usr/bin/env bash
# Set up all that lisa_mm needs, tests included, in a virtual environment of its own:
#     bash tools/install.sh
# It wants Python 3.10 to 3.12 and a C++ compiler. Run again, it continues where it stopped, and
# once all is in place it only says so.
#   VENV=<folder>      where the environment goes (default: .venv in the checkout)
#   PYTHON=<program>   the Python that it is made from (default: python3)
#   MAX_JOBS=<n>       compilers to run at a time (default: one per core)
# Where pip finds its packages is left to pip's own settings.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${VENV:-$root/.venv}
[[ $VENV == /* ]] || VENV=$PWD/$VENV
cd "$root"
python=$VENV/bin/python
log=$VENV/install.log
stamp=$VENV/.lisa_mm_installed

# The stamp knows the inputs and the checkout: the editable install points at one checkout only.
fingerprint="$root $(cat requirements/*.txt setup.py tools/install.sh | cksum)"
if [[ -x $python && -f $stamp && $(cat "$stamp") == "$fingerprint" ]]; then
    echo "$VENV is up to date (remove $stamp to have it checked again)"
    exit 0
fi

# Settings meant for other installs would send packages elsewhere, or leave half of them out.
unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_NO_DEPS PIP_DRY_RUN PIP_QUIET PIP_VERBOSE PIP_CONSTRAINT \
    PIP_REQUIREMENT PIP_NO_BUILD_ISOLATION PYTHONPATH PYTHONHOME
export PIP_USER=0 MAX_JOBS=${MAX_JOBS:-$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)}

die() { echo "install.sh: $*" >&2; exit 1; }

step() { SECONDS=0; echo "[$1/5] $2"; }

finish() { echo "      done in $SECONDS s"; }

# Of pip's output, show only what tells that a slow step is alive.
progress() {
    local line compiled='^ *\[([0-9]+)/([0-9]+)\]' download='(Downloading .*[0-9]{3}\.[0-9] MB\))'
    while IFS= read -r line; do
        if [[ $line =~ $compiled ]]; then
            if ((BASH_REMATCH[1] % 5 == 0 || BASH_REMATCH[1] == BASH_REMATCH[2])); then
                echo "      compiled ${BASH_REMATCH[1]} of ${BASH_REMATCH[2]} files, $SECONDS s"
            fi
        elif [[ $line =~ $download ]]; then
            echo "      ${BASH_REMATCH[1]}"
        fi
    done
}

pip_install() {
    "$python" -m pip install -c requirements/constraints.txt "$@" 2>&1 | tee -a "$log" | progress || {
        tail -n 40 "$log" >&2
        die "'pip install $*' failed; the end of $log stands above. Run again to continue."
    }
}

# Without isolation, or mmcv would not find torch and would leave its operators out.
install_mmcv() { pip_install -v --no-build-isolation "$@" onedl-mmcv; }

passes() { "$python" - >>"$log" 2>&1; }  # a Python program on standard input

mmcv_works() {
    passes <<'PY'
import torch
from mmcv.ops import nms
from torch.utils.cpp_extension import CUDA_HOME

device = 'cuda' if torch.cuda.is_available() and CUDA_HOME else 'cpu'
boxes = torch.tensor([[0., 0., 10., 10.], [1., 1., 10., 10.]], device=device)
_, kept = nms(boxes, torch.tensor([.9, .8], device=device), iou_threshold=.5)
assert kept.tolist() == [0], kept
PY
}

# Ask first for what would be missed only after minutes.
[[ ! -x $python ]] || PYTHON=$python
PYTHON=${PYTHON:-python3}
version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    die "'$PYTHON' does not run: install Python 3.10 to 3.12, or name one with PYTHON=..."
case $version in
3.10 | 3.11 | 3.12) ;;
*) die "'$PYTHON' is Python $version, but 3.10 to 3.12 are supported: name one with PYTHON=..." ;;
esac
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
    die "'$PYTHON' cannot make virtual environments: on Debian or Ubuntu, apt install python$version-venv"
"$PYTHON" -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null ||
    die "'$PYTHON' has no Python.h to compile against: on Debian or Ubuntu, apt install python$version-dev"
command -v "${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null ||
    die "no C++ compiler (c++, g++ or clang++): on Debian or Ubuntu, apt install g++"

step 1 "virtual environment in $VENV (Python $version)"
has_pip() { "$python" -m pip --version >/dev/null 2>&1; }
has_pip || { "$PYTHON" -m venv "$VENV" && has_pip; } ||
    die "could not make a virtual environment in $VENV: remove what is there and run again"
rm -f "$stamp"
: >"$log"
finish

step 2 "torch, torchvision and build tools"
pip_install -r requirements/build.txt
finish

step 3 "mmcv with its operators, from source (8 minutes on 2 cores; pip keeps what it built)"
if ! passes <<<'import torch as t, torch.utils.cpp_extension as e; assert e.CUDA_HOME or not t.cuda.is_available()'
then
    echo "      There is a GPU, but no CUDA compiler (nvcc): mmcv's operators are built for the CPU only."
    export CUDA_VISIBLE_DEVICES=
fi
install_mmcv
finish

step 4 "the other OpenMMLab packages, runtime and test requirements"
pip_install -r requirements/mminstall.txt -r requirements/runtime.txt -r requirements/tests.txt
if ! passes <<<'import cv2'; then
    # Both OpenCV packages are required above and share a folder; only the headless one does without libGL.
    echo "      OpenCV's desktop build does not load on this machine: putting the headless one over it"
    pip_install --no-deps --force-reinstall opencv-python-headless
fi
finish

step 5 "lisa_mm itself, and a check of the whole"
pip_install --no-build-isolation --no-deps -e .
if ! mmcv_works; then
    # pip's cache knows mmcv by its source, not by the torch that it was compiled against. Throwing
    # the old build out, rather than passing it by, lets the next environment find the new one.
    echo "      mmcv's operators do not run with this torch: compiling them afresh"
    "$python" -m pip cache remove onedl_mmcv >>"$log" 2>&1 || true
    install_mmcv --force-reinstall --no-deps
    mmcv_works || { tail -n 20 "$log" >&2; die "mmcv's operators do not run: see $log"; }
fi
passes <<<'import torchvision, mmdet, mmpretrain, mmseg, lisa_mm' ||
    { tail -n 20 "$log" >&2; die "not every package can be imported: see $log"; }
finish

echo "$fingerprint" >"$stamp"
echo "Installed. To use it: source $VENV/bin/activate"
