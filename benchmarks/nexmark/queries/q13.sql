-- Bounded side input: each bid with a value from a table.
CREATE TABLE side_input (key BIGINT PRIMARY KEY, value TEXT);

INSERT INTO side_input SELECT k, 'value ' || k FROM generate_series(0, 9999) AS g(k);

CREATE MATERIALIZED VIEW q13 AS
SELECT b.auction, b.bidder, b.price, b.date_time, s.value
FROM bid AS b JOIN side_input AS s ON b.auction % 10000 = s.key
EMIT UPDATE;
