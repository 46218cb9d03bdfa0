INSERT INTO readings VALUES ('kitchen', 21.5), ('sauna', 84);
INSERT INTO readings VALUES ('kitchen', 35.25), ('cellar', 12);
