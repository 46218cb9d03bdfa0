CREATE STREAM readings (room TEXT, celsius NUMERIC(5,2));
CREATE MATERIALIZED VIEW hot AS SELECT room, celsius FROM readings WHERE celsius > 30 EMIT APPEND;
CREATE SINK alerts FROM hot WITH (connector = 'webhook', url = 'http://localhost:8099/hook', signing_secret = secret 'env:ALERTS_SECRET');
