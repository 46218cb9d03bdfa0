CREATE TABLE defaulted (a TIMESTAMPTZ DEFAULT now(), b TIMESTAMPTZ DEFAULT CURRENT_TIMESTAMP, c UUID DEFAULT gen_random_uuid(), d TEXT[] DEFAULT '{}'::text[], e VARCHAR(9) DEFAULT 'x', f BOOLEAN DEFAULT true, g INT DEFAULT 3, h TIMESTAMPTZ DEFAULT clock_timestamp(), i JSONB DEFAULT '{}', j TEXT DEFAULT 'a'::text, k INT DEFAULT 7 / 2, l DATE DEFAULT CURRENT_DATE, m FLOAT8 DEFAULT random());
SELECT column_name, column_default FROM information_schema.columns WHERE table_name = 'defaulted' AND column_name <> 'k' ORDER BY 1;
INSERT INTO defaulted DEFAULT VALUES;
INSERT INTO defaulted (a, d, e, k) VALUES (DEFAULT, DEFAULT, 'y', DEFAULT);
SELECT b >= a, c IS NOT NULL, d, e, f, g, h >= a, i, j, k, m BETWEEN 0 AND 1 FROM defaulted ORDER BY e;
ALTER TABLE defaulted ALTER COLUMN e SET DEFAULT 'z', ALTER COLUMN g DROP DEFAULT, ADD COLUMN n TEXT[] DEFAULT '{a,b}'::text[];
INSERT INTO defaulted (j) VALUES (NULL);
SELECT e, g, n FROM defaulted ORDER BY e;
