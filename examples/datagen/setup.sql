CREATE STREAM readings (at TIMESTAMP, sensor TEXT, celsius NUMERIC(5,2), state TEXT,
        WATERMARK FOR at AS at - INTERVAL '5 seconds')
    WITH (connector = 'datagen', rows = 20000, seed = 7,
        fields.at.start = '2026-03-01 10:00:00', fields.at.step = '10 ms', fields.at.out_of_orderness = '5 seconds',
        fields.sensor.kind = 'zipf', fields.sensor.distinct = 5, fields.sensor.prefix = 'sensor-',
        fields.celsius.kind = 'normal', fields.celsius.mean = 21, fields.celsius.stddev = 4, fields.celsius.null_rate = 0.01,
        fields.state.kind = 'choice', fields.state.values = 'ok, warm, broken', fields.state.weights = '90, 9, 1');
CREATE MATERIALIZED VIEW by_minute AS
    SELECT window_start, sensor, count(*) AS readings, round(avg(celsius), 2) AS mean, count(*) FILTER (state = 'broken') AS broken
    FROM readings GROUP BY window(at, '1 minute'), sensor EMIT APPEND;
