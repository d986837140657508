#!/bin/sh
# Do what is due and publish it, once; for a scheduler. DuckDB serves one process at a time,
# so a second run waits for the first.
cd "$(dirname "$0")" || exit 1
exec flock .lock sh -c 'sqlmesh run && python publish.py'
