CREATE TABLE merged (id int PRIMARY KEY, v text, n int DEFAULT 7, q numeric(6,2));
CREATE TABLE merged_ser (id serial PRIMARY KEY, email text UNIQUE, hits int DEFAULT 0);
CREATE TABLE merged_src (id int, v text, op text);
INSERT INTO merged VALUES (1,'a',1,1.5),(2,'b',2,2.5),(3,'c',3,NULL);
INSERT INTO merged_src VALUES (1,'x','u'),(2,'y','d'),(4,'new','i'),(5,'no','skip'),(3,'k','keep');
MERGE INTO merged USING merged_src AS s ON merged.id = s.id WHEN MATCHED AND op = 'd' THEN DELETE WHEN MATCHED AND op = 'keep' THEN DO NOTHING WHEN MATCHED THEN UPDATE SET v = s.v, n = merged.n / 2 + 10, q = DEFAULT WHEN NOT MATCHED AND s.op = 'skip' THEN DO NOTHING WHEN NOT MATCHED THEN INSERT (id, v) VALUES (id, s.v);
SELECT * FROM merged ORDER BY id;
MERGE INTO merged AS x USING (VALUES (1, 'p'), (1, 'q')) AS s(id, v) ON x.id = s.id WHEN MATCHED THEN UPDATE SET v = s.v;
MERGE INTO merged_ser USING (VALUES ('a'), ('b')) AS s(e) ON merged_ser.email = s.e WHEN MATCHED THEN UPDATE SET hits = hits + 1 WHEN NOT MATCHED THEN INSERT (email) VALUES (s.e);
MERGE INTO merged_ser USING (VALUES ('a'), ('c')) AS s(e) ON merged_ser.email = s.e WHEN MATCHED THEN UPDATE SET hits = hits + 1 WHEN NOT MATCHED THEN INSERT (email) VALUES (s.e);
SELECT * FROM merged_ser ORDER BY id;
BEGIN;
INSERT INTO merged VALUES (9, 'in tx', 1, 1);
UPDATE merged SET n = 100 WHERE id = 1;
MERGE INTO merged USING (VALUES (9), (1), (10)) AS s(id) ON merged.id = s.id WHEN MATCHED AND merged.n = 100 THEN DELETE WHEN MATCHED THEN UPDATE SET (v, n) = ('merged', -1) WHEN NOT MATCHED THEN INSERT VALUES (s.id, DEFAULT, 5);
SELECT * FROM merged ORDER BY id;
MERGE INTO merged USING (VALUES (11)) AS s(x) ON merged.id = s.x WHEN NOT MATCHED THEN INSERT (id) VALUES (3);
ROLLBACK;
MERGE INTO merged USING (VALUES (11)) AS s(x) ON merged.id = s.x WHEN NOT MATCHED THEN INSERT (id) VALUES (3);
MERGE INTO merged USING (VALUES (11)) AS s(x) ON merged.id = s.x WHEN NOT MATCHED THEN INSERT (id) VALUES (merged.id);
MERGE INTO merged USING (VALUES (11)) AS s(x) ON merged.id = s.x WHEN NOT MATCHED THEN INSERT (id, nope) VALUES (1, 2);
MERGE INTO merged USING (VALUES (11)) AS s(x) ON merged.id = s.x WHEN NOT MATCHED THEN INSERT (id) VALUES (true);
MERGE INTO merged USING (VALUES (11)) AS s(x) ON merged.id = s.x WHEN NOT MATCHED THEN INSERT (id) VALUES (1, 2);
MERGE INTO merged USING (VALUES (3)) AS s(x) ON merged.id = s.x WHEN MATCHED THEN UPDATE SET v = v || '!' || x WHEN MATCHED THEN DELETE;
MERGE INTO merged USING (VALUES (3)) AS s(x) ON merged.id = s.x WHEN MATCHED THEN INSERT VALUES (1);
MERGE INTO merged USING (VALUES (3)) AS s(x) ON merged.id = s.x WHEN NOT MATCHED THEN DELETE;
MERGE INTO merged USING nosuch AS s ON merged.id = s.x WHEN NOT MATCHED THEN DO NOTHING;
MERGE INTO nosuch USING merged AS s ON nosuch.id = s.x WHEN NOT MATCHED THEN DO NOTHING;
MERGE INTO merged USING merged AS s ON merged.id = s.id AND s.v = 'c' WHEN MATCHED THEN UPDATE SET v = s.v || merged.v, id = s.id + 20;
PREPARE merging(int, text) AS MERGE INTO merged USING (VALUES ($1, $2)) AS s(id, v) ON merged.id = s.id WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, s.v);
EXECUTE merging(77, 'seventy');
EXECUTE merging(77, 'changed');
SELECT * FROM merged ORDER BY id;
MERGE INTO merged USING (SELECT 77 AS id) s ON s.id = merged.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT DEFAULT VALUES;
MERGE INTO merged_ser USING (SELECT 1) s ON false WHEN NOT MATCHED THEN INSERT DEFAULT VALUES;
SELECT * FROM merged_ser ORDER BY id;
-- differs: the detail says which value
MERGE INTO merged USING merged_src s ON s.id = merged.id WHEN MATCHED THEN UPDATE SET q = 123456.789;
CREATE TYPE merged_mood AS ENUM ('sad', 'happy');
CREATE TABLE merged_parent (k INT PRIMARY KEY, m merged_mood DEFAULT 'happy', c INT NOT NULL CHECK (c > 0), w VARCHAR(3));
CREATE TABLE merged_child (id INT PRIMARY KEY, parent INT REFERENCES merged_parent (k) ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO merged_parent VALUES (1, 'sad', 1, 'a'), (2, 'sad', 2, 'b');
INSERT INTO merged_child VALUES (10, 1), (20, 2), (21, 2);
MERGE INTO merged_parent p USING (VALUES (1, 'happy'), (2, 'sad'), (3, 'sad')) AS s(k, m) ON p.k = s.k
    WHEN MATCHED AND s.m = 'happy' THEN DELETE
    WHEN MATCHED THEN UPDATE SET k = p.k + 100
    WHEN NOT MATCHED THEN INSERT (k, c) VALUES (s.k, 1);
SELECT k, m::text, c, w FROM merged_parent ORDER BY k;
SELECT * FROM merged_child ORDER BY id;
MERGE INTO merged_parent p USING (VALUES (3)) AS s(k) ON p.k = s.k WHEN MATCHED THEN UPDATE SET m = 'sad', w = 'four';
MERGE INTO merged_parent p USING (VALUES (3)) AS s(k) ON p.k = s.k WHEN MATCHED THEN UPDATE SET c = 0;
-- differs: the detail is left away
MERGE INTO merged_parent p USING (VALUES (3)) AS s(k) ON p.k = s.k WHEN MATCHED THEN UPDATE SET c = NULL;
-- differs: the detail is left away
MERGE INTO merged_parent p USING (VALUES (4)) AS s(k) ON p.k = s.k WHEN NOT MATCHED THEN INSERT (k) VALUES (s.k);
MERGE INTO merged_parent p USING (VALUES (3)) AS s(k) ON p.k = s.k WHEN MATCHED THEN UPDATE SET m = 'glad';
MERGE INTO merged_child c USING (VALUES (30)) AS s(k) ON c.id = s.k WHEN NOT MATCHED THEN INSERT VALUES (s.k, 99);
MERGE INTO merged_child c USING (VALUES (20)) AS s(k) ON c.id = s.k WHEN MATCHED THEN UPDATE SET parent = 99;
MERGE INTO merged_child c USING (VALUES (20)) AS s(k) ON c.id = s.k WHEN MATCHED AND k > 20 THEN DELETE;
MERGE INTO merged_child c USING (VALUES (20)) AS s(k) ON id = k WHEN MATCHED THEN UPDATE SET id = 1 / (k - 20);
MERGE INTO merged_child c USING (VALUES (20)) AS s(id) ON c.id = s.id WHEN MATCHED THEN UPDATE SET parent = id;
MERGE INTO merged_child USING merged_parent ON merged_child.parent = merged_parent.k
    WHEN MATCHED AND CASE WHEN m = 'sad' THEN true ELSE false END THEN UPDATE SET id = merged_child.id + 1000
    WHEN NOT MATCHED THEN INSERT VALUES (k, k);
SELECT * FROM merged_child ORDER BY id;
SELECT k, m::text, c, w FROM merged_parent ORDER BY k;
MERGE INTO merged_child USING merged_parent ON true WHEN MATCHED THEN UPDATE SET id = 1, id = 2;
MERGE INTO merged_child USING merged_parent ON true;
MERGE INTO merged_child USING merged_parent USING (id) WHEN MATCHED THEN DELETE;
MERGE INTO merged_child USING merged_parent ON 1 WHEN MATCHED THEN DELETE;
