-- Hot items: the auctions with the most bids in the last ten seconds, every two seconds.
CREATE MATERIALIZED VIEW q5_counts AS
SELECT window_start, window_end, auction, count(*) AS num
FROM HOP(bid, date_time, INTERVAL '2 seconds', INTERVAL '10 seconds')
GROUP BY window_start, window_end, auction
EMIT UPDATE;

CREATE MATERIALIZED VIEW q5 AS
SELECT c.window_start, c.auction, c.num
FROM q5_counts AS c
JOIN (SELECT window_start, max(num) AS most FROM q5_counts GROUP BY window_start) AS m
    ON c.window_start = m.window_start AND c.num >= m.most
EMIT UPDATE;
