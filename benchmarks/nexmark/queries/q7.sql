-- Highest bid of every ten seconds.
CREATE MATERIALIZED VIEW q7_highest AS
SELECT window_start, window_end, max(price) AS highest
FROM TUMBLE(bid, date_time, INTERVAL '10 seconds')
GROUP BY window_start, window_end
EMIT UPDATE;

CREATE MATERIALIZED VIEW q7 AS
SELECT b.auction, b.price, b.bidder, b.date_time, b.extra
FROM bid AS b JOIN q7_highest AS h
    ON b.price = h.highest AND b.date_time >= h.window_start AND b.date_time < h.window_end
EMIT UPDATE;
