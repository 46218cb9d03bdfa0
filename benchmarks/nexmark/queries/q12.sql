-- Bids of a bidder in ten seconds of the wall clock: processing time.
CREATE MATERIALIZED VIEW q12 AS
SELECT bidder, count(*) AS bids, window_start, window_end
FROM TUMBLE(bid, PROCTIME(), INTERVAL '10 seconds')
GROUP BY bidder, window_start, window_end
EMIT APPEND;
