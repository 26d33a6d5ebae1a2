CREATE TABLE IF NOT EXISTS numbers (id INTEGER PRIMARY KEY, text TEXT, value REAL);
BEGIN;
INSERT INTO numbers (text, value)
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
  SELECT 'row ' || (i * 7919 % 2003), random() FROM n;
COMMIT;
CREATE INDEX IF NOT EXISTS by_text ON numbers (text);
SELECT count(*), sum(value) FROM numbers WHERE text LIKE 'row 1%';
SELECT text, count(*) FROM numbers GROUP BY text ORDER BY 2 DESC LIMIT 3;
DELETE FROM numbers WHERE id % 3 <> 0;
ATTACH ':memory:' AS memory;
CREATE TABLE memory.copies AS SELECT * FROM numbers;
SELECT count(*) FROM memory.copies a JOIN numbers b ON a.id = b.id WHERE a.value > b.value - 1;
DETACH memory;
