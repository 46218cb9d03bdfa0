-- at the origin again: one transaction
BEGIN;
INSERT INTO orders VALUES (10, 'east', 100, 'new');
UPDATE orders SET region = 'east' WHERE id <= 2;
DELETE FROM orders WHERE region = 'west';
COMMIT;
