#!/bin/sh
# Counts the visits in a folder of files, and writes the counts as files. Takes the server's address.
set -eu
here=$(dirname "$0")
url=${1:-postgresql://localhost:5433/streamsql}
psql -X -q -d "$url" -f "$here/setup.sql"
mkdir -p /tmp/streamsql-files/visits
cp "$here"/visits/*.json /tmp/streamsql-files/visits/
until grep -qs 10:01 /tmp/streamsql-files/counts/country=DE/part-*.csv; do sleep 0.2; done
psql -X -d "$url" -c 'SELECT at, country, page, place FROM visits ORDER BY at' \
    -c 'SELECT stream, reason FROM streamsql.rejected_rows'
cat /tmp/streamsql-files/counts/country=*/part-*.csv | sort
