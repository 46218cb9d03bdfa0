CREATE STREAM readings (room TEXT, celsius NUMERIC(5,2)) INCLUDE SEQUENCE AS sequence WITH (connector = 'nats', url = 'nats://127.0.0.1:4222', stream = 'READINGS', subject = 'readings.*');
CREATE MATERIALIZED VIEW hot AS SELECT room, celsius, sequence FROM readings WHERE celsius > 30 EMIT APPEND;
CREATE SINK alerts FROM hot WITH (connector = 'nats', url = 'nats://127.0.0.1:4222', stream = 'ALERTS', subject = 'alerts.{room}', exclusive = true);
