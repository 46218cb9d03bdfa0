CREATE STREAM readings SCHEMA INFERRED
  WITH (connector = 'kafka', brokers = 'localhost:9092', topic = 'readings', format = 'avro', registry = 'http://localhost:8081');
CREATE MATERIALIZED VIEW rooms AS
  SELECT room, count(*) AS readings, round(avg(celsius), 2) AS celsius, min(battery) AS battery FROM readings GROUP BY room;
CREATE SINK rooms_out FROM rooms
  WITH (connector = 'kafka', brokers = 'localhost:9092', topic = 'rooms', create_topic = true, format = 'avro',
        registry = 'http://localhost:8081');
