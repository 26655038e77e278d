#!/usr/bin/env bash
# The whole check: install what is missing, lint, test. Arguments go on to pytest, for instance
#     bash tests/run.sh -k gradcheck tests/test_ops
# Two workers with a thread each are faster than one process with two threads, for the tensors of
# tests are small. "-n 0" runs all in a single process, for a debugger.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${VENV:-$root/.venv}
[[ $VENV == /* ]] || VENV=$PWD/$VENV
export VENV OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
cd "$root"
bash tools/install.sh
"$VENV/bin/python" -m ruff check .
"$VENV/bin/python" -m pytest -n 2 -rs "$@"
