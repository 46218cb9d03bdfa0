#!/bin/sh
# Makes readings and shows what a view has counted. Takes the server's address.
set -eu
here=$(dirname "$0")
url=${1:-postgresql://localhost:5433/streamsql}
psql -X -q -d "$url" -f "$here/setup.sql"
until psql -X -Atd "$url" -c "SELECT status FROM streamsql.sources WHERE name = 'readings'" | grep -qx finished; do sleep 0.2; done
psql -X -d "$url" -c 'SELECT * FROM by_minute ORDER BY window_start, sensor'
