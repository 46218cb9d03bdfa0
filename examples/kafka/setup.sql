CREATE STREAM trades (ts TIMESTAMP, symbol TEXT, price DOUBLE PRECISION, qty INT, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
  WITH (connector = 'kafka', brokers = 'localhost:9092', topic = 'trades');
CREATE MATERIALIZED VIEW minutes AS
  SELECT window_start, symbol, count(*) AS trades, sum(price * qty) AS turnover
  FROM trades GROUP BY window(ts, '1 minute'), symbol WITH WATERMARK '5 seconds' EMIT APPEND;
CREATE SINK minutes_out FROM minutes
  WITH (connector = 'kafka', brokers = 'localhost:9092', topic = 'minutes', create_topic = true);
