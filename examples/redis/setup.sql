CREATE STREAM readings (room TEXT, celsius NUMERIC(5,2)) WITH (connector = 'redis', url = 'redis://127.0.0.1:6379/0', stream = 'readings');
CREATE MATERIALIZED VIEW hot AS SELECT room, celsius FROM readings WHERE celsius > 30 EMIT APPEND;
CREATE MATERIALIZED VIEW rooms AS SELECT room, count(*) AS readings, max(celsius) AS warmest FROM readings GROUP BY room EMIT UPDATE;
CREATE SINK alerts FROM hot WITH (connector = 'redis', url = 'redis://127.0.0.1:6379/0', stream = 'alerts');
CREATE SINK board FROM rooms WITH (connector = 'redis', url = 'redis://127.0.0.1:6379/0', hash = 'room:', key = 'room');
