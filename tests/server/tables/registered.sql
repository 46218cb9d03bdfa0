CREATE TABLE "order" (id SERIAL);
CREATE TABLE "Mixed" (id INT);
SELECT x::regclass::text FROM (VALUES ('"order"'), ('"Mixed"'), ('public."order"'), ('"public"."Mixed"'), ('pg_class'), ('PG_CATALOG.PG_TYPE')) AS v (x) ORDER BY 1;
SELECT x::regclass = '"order"'::regclass FROM (VALUES ('"order"'), ('"Mixed"')) AS v (x);
SELECT pg_get_serial_sequence(attrelid::regclass::text, attname)::regclass::text FROM pg_attribute WHERE attrelid = '"order"'::regclass AND attname = 'id';
