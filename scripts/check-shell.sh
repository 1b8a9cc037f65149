#!/usr/bin/env bash
# Checks every shell script of the repository: syntax always, shellcheck where it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t scripts < <(git ls-files --cached --others --exclude-standard -- '*.sh' .ci/run)
for script in "${scripts[@]}"; do
    bash -n "$script"
done
if command -v shellcheck >/dev/null 2>&1; then
    shellcheck "${scripts[@]}"
else
    echo "check-shell: shellcheck is not installed, only the syntax was checked" >&2
fi
