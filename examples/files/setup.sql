CREATE STREAM visits (at TIMESTAMP, country TEXT, page TEXT, WATERMARK FOR at AS at - INTERVAL '10 seconds')
    INCLUDE FILE AS file, OFFSET AS place
    WITH (connector = 'file', path = '/tmp/streamsql-files/visits/*.json', columns = 'country:visitor.country');

CREATE MATERIALIZED VIEW by_minute AS
    SELECT window_start AS minute, country, count(*) AS visits
    FROM visits GROUP BY window(at, '1 minute'), country EMIT APPEND;

CREATE SINK counts FROM by_minute
    WITH (connector = 'file', path = '/tmp/streamsql-files/counts', format = 'csv', partition_by = 'country',
          roll_interval = '1 second');
