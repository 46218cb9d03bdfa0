#!/bin/sh
# Makes auctions and bids, and shows what two views know of them. Takes the server's address.
set -eu
here=$(dirname "$0")
url=${1:-postgresql://localhost:5433/streamsql}
psql -X -q -d "$url" -f "$here/setup.sql"
until test "$(psql -X -Atd "$url" -c "SELECT count(*) FROM streamsql.sources WHERE status = 'finished'")" = 2; do sleep 0.2; done
psql -X -d "$url" -c 'SELECT * FROM highest ORDER BY window_start' -c 'SELECT * FROM by_category ORDER BY category'
