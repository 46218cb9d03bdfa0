-- Winning bids: the highest of each auction while it was open, the earliest of those.
CREATE MATERIALIZED VIEW q9 AS
SELECT q.id, q.item_name, q.description, q.initial_bid, q.reserve, q.date_time, q.expires, q.seller, q.category, q.extra,
    q.auction, q.bidder, q.price, q.bid_date_time, q.bid_extra
FROM (
    SELECT a.*, b.auction, b.bidder, b.price, b.date_time AS bid_date_time, b.extra AS bid_extra,
        row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time, b.bidder, b.extra) AS place
    FROM auction AS a JOIN bid AS b ON a.id = b.auction
    WHERE b.date_time BETWEEN a.date_time AND a.expires
) AS q
WHERE q.place = 1
EMIT UPDATE;
