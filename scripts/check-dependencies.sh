#!/usr/bin/env bash
# Licences, bans and sources of every dependency; advisories where their database can be had.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo deny --locked check --hide-inclusion-graph licenses bans sources

# Without the database the question is open, which must neither pass for "none found" nor stop
# work on a machine that is cut off.
if fetched=$(timeout 120 cargo deny --locked fetch db 2>&1); then
    cargo deny --locked check --disable-fetch --hide-inclusion-graph advisories
else
    {
        echo "****************************************************************************"
        echo "* ADVISORIES NOT CHECKED: the advisory database could not be fetched.      *"
        echo "* Known vulnerabilities in dependencies would go unnoticed in this run.    *"
        echo "****************************************************************************"
        printf '%s\n' "$fetched" | tail -n 5
    } >&2
fi
