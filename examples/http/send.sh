# Usage: sh send.sh http://localhost:8080
cd "$(dirname "$0")" || exit 1
for time in first second; do
    curl --silent --show-error "$1/streams/readings" --header 'Content-Type: application/x-ndjson' \
        --header 'Idempotency-Key: readings of new year' --data-binary @readings.ndjson
done
curl --silent --show-error --get "$1/query" --header 'Accept: text/csv' \
    --data-urlencode 'sql=SELECT * FROM rooms ORDER BY room'
curl --silent --show-error --get "$1/query" --header 'Accept: text/csv' \
    --data-urlencode 'sql=SELECT position, reason FROM streamsql.rejected_rows'
