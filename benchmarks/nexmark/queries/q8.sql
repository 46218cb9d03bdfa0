-- Monitor new users: who came in and opened an auction within the same ten seconds.
CREATE MATERIALIZED VIEW q8_people AS
SELECT window_start, window_end, id, name
FROM TUMBLE(person, date_time, INTERVAL '10 seconds')
GROUP BY window_start, window_end, id, name
EMIT UPDATE;

CREATE MATERIALIZED VIEW q8_sellers AS
SELECT window_start, window_end, seller
FROM TUMBLE(auction, date_time, INTERVAL '10 seconds')
GROUP BY window_start, window_end, seller
EMIT UPDATE;

CREATE MATERIALIZED VIEW q8 AS
SELECT p.id, p.name, p.window_start
FROM q8_people AS p JOIN q8_sellers AS s ON p.id = s.seller AND p.window_start = s.window_start
EMIT UPDATE;
