-- Pass-through: what a row costs that nothing is done to.
CREATE MATERIALIZED VIEW q0 AS
SELECT auction, bidder, price, date_time, extra FROM bid EMIT APPEND;
