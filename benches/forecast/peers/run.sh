#!/usr/bin/env bash
# Forecasts windows with Python libraries: run.sh WINDOWS ANSWERS MISSING SECONDS
#
# The libraries live in an environment of their own outside the repository; what is missing is
# installed, and what cannot be is named in the file MISSING, one line each.
set -euo pipefail

windows=$1 answers=$2 missing=$3 seconds=$4
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
environment=${XDG_CACHE_HOME:-$HOME/.cache}/foreshadow-bench/venv
python=$environment/bin/python

: >"$missing"
: >"$answers"
if [ ! -x "$python" ] && ! python3 -m venv "$environment" >&2; then
    echo 'all: python3 -m venv failed; install python3 with its venv module' >>"$missing"
    exit 0
fi
while read -r module package; do
    if ! "$python" -c "import importlib.util, sys; sys.exit(not importlib.util.find_spec('$module'))"; then
        printf 'peers: installing %s\n' "$package" >&2
        "$python" -m pip install --quiet --disable-pip-version-check "$package" >&2 ||
            echo "$package: pip could not install it" >>"$missing"
    fi
done <<'EOF'
statsforecast statsforecast==2.1.1
prophet prophet==1.5.0
flaircast flaircast==0.6.1
EOF

# One thread: what is measured beside it runs on one too.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1
exec "$python" "$here/peers.py" "$windows" "$answers" "$seconds"
