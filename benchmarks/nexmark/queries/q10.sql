-- Log to a file system: the rows with the day and the minute that would name their files. There is no sink for files yet.
CREATE MATERIALIZED VIEW q10 AS
SELECT auction, bidder, price, date_time, extra,
    to_char(date_time, 'YYYY-MM-DD') AS day, to_char(date_time, 'HH24:MI') AS minute
FROM bid EMIT APPEND;
