CREATE STREAM readings (celsius NUMERIC(5,2)) INCLUDE TOPIC AS topic WITH (connector = 'mqtt', url = 'mqtt://127.0.0.1:1883', topic = 'rooms/+/temperature');
CREATE MATERIALIZED VIEW rooms AS SELECT split_part(topic, '/', 2) AS room, count(*) AS readings, max(celsius) AS warmest FROM readings GROUP BY split_part(topic, '/', 2) EMIT UPDATE;
CREATE SINK board FROM rooms WITH (connector = 'mqtt', url = 'mqtt://127.0.0.1:1883', topic = 'board/{room}', key = 'room', retain = true);
