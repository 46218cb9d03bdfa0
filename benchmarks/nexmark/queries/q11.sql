-- User sessions: bids of a bidder with no pause of ten seconds.
CREATE MATERIALIZED VIEW q11 AS
SELECT bidder, count(*) AS bids, window_start, window_end
FROM bid GROUP BY session_window(date_time, '10 seconds'), bidder
EMIT APPEND;
