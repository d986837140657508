#!/bin/sh
# Do what is due, and publish what that has not published; for a scheduler. One at a time, as DuckDB
# would have it: a second run waits for the first.
cd "$(dirname "$0")" || exit 1
# A few dozen models load faster in one process; several hundred may want more.
export MAX_FORK_WORKERS="${MAX_FORK_WORKERS:-1}"
exec flock .lock sh -c 'sqlmesh run && python publish.py --missing'
