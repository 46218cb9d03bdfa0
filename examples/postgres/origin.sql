-- at the origin (PostgreSQL 12 or newer, with wal_level = logical)
CREATE TABLE orders (id bigint PRIMARY KEY, region text NOT NULL, amount numeric(10, 2) NOT NULL, note text);
INSERT INTO orders SELECT i, (ARRAY['north', 'south', 'west'])[1 + i % 3], i * 1.5, 'from before' FROM generate_series(1, 9) AS i;
CREATE TABLE managers (region text PRIMARY KEY, name text NOT NULL);
INSERT INTO managers VALUES ('north', 'nora'), ('south', 'sam');
