-- in streamsql; HOST, PORT, DATABASE and USER say where the origin is
CREATE TABLE orders (id BIGINT PRIMARY KEY, region TEXT NOT NULL, amount NUMERIC(10, 2) NOT NULL)
    WITH (connector = 'postgres', host = 'HOST', port = 'PORT', database = 'DATABASE', user = 'USER');
CREATE MATERIALIZED VIEW regions AS
    SELECT region, count(*) AS orders, sum(amount) AS amount FROM orders GROUP BY region EMIT UPDATE;
CREATE SINK regions FROM regions
    WITH (connector = 'postgres', host = 'HOST', port = 'PORT', database = 'DATABASE', user = 'USER',
          key = 'region', table = 'regions', create_table = true);
CREATE TABLE managers (region TEXT PRIMARY KEY, name TEXT NOT NULL)
    WITH (connector = 'postgres-lookup', host = 'HOST', port = 'PORT', database = 'DATABASE', user = 'USER', cache_ttl = '0');
CREATE STREAM visits (region TEXT, visitor TEXT);
CREATE MATERIALIZED VIEW received AS
    SELECT v.visitor, m.name AS received_by FROM visits AS v
    LEFT JOIN managers FOR SYSTEM_TIME AS OF PROCTIME() AS m ON v.region = m.region EMIT APPEND;
