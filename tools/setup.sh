#!/bin/sh
# .venv, ready to run the demo, the benchmarks and single tests in: system packages, the environment, the extension.
# Usage: setup.sh [REQUIREMENTS]
set -eu
cd "$(dirname "$0")/.."
main=$(python3 tools/find_pythons.py | head -n 1)
python=${main#* }
[ -n "$python" ]
requirements=${1:-tests/requirements.txt}
# What `make test` has put there stays.
if [ -e .venv/made ] && grep -q 'requirements-frameworks.txt$' .venv/made; then
    requirements=tests/requirements-frameworks.txt
fi
clients=
[ "$requirements" != tests/requirements-frameworks.txt ] || clients=clients
# shellcheck disable=SC2086
PYTHON=$python tools/system.sh run $clients
tools/environment.sh "$python" .venv "$requirements"
