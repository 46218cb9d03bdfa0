CREATE STREAM readings (at TIMESTAMP, room TEXT NOT NULL, celsius NUMERIC(5,2));
CREATE MATERIALIZED VIEW rooms AS SELECT room, count(*) AS readings, max(celsius) AS warmest FROM readings GROUP BY room EMIT UPDATE;
