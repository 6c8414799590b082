SELECT 1, 'a', NULL, 1.5, 1e3, -2, TRUE, x'41'
SELECT 1/3*3, 2/3, 7/2, 7 DIV 2, -7 DIV 2, 7 % 3, 7.5 % 2, 1.5*1.25, 1.5+1, '3' + 4, '12abc'*2, 1/0, 5 MOD 3, 10/4*2.5
SELECT ROUND(2.5), ROUND(-2.5), ROUND(2.345,2), ROUND(1.5,3), ROUND(1234,-2), ROUND(2.5e0), ROUND('2.5'), TRUNCATE(1.999,2), TRUNCATE(-1.999,1), CEIL(1.2), FLOOR(-1.2), CEIL('1.2'), FLOOR(1.5e0), ABS(-3.20), SIGN(-2.5), MOD(10,3), POW(2,3), SQRT(16)
SELECT a, a+0, a=12, a='12ABC', a<5 FROM t
SELECT b FROM t ORDER BY b
SELECT b FROM t WHERE b = 'emile'
SELECT DISTINCT b FROM t
SELECT b, COUNT(*) FROM t GROUP BY b
SELECT c, SUM(c), AVG(c), MIN(c), MAX(c) FROM t GROUP BY c
SELECT SUM(a), AVG(a), MIN(a), MAX(a), COUNT(a), SUM(c), AVG(c) FROM t
SELECT SUM(pay), AVG(pay), MIN(pay), MAX(pay), COUNT(DISTINCT pay), SUM(id), AVG(id), SUM(score), AVG(score), STDDEV(pay), VARIANCE(score), STDDEV_SAMP(id) FROM people
SELECT GROUP_CONCAT(name), GROUP_CONCAT(name ORDER BY name DESC SEPARATOR ' | '), GROUP_CONCAT(DISTINCT team) FROM people
SELECT GROUP_CONCAT(pay), GROUP_CONCAT(score), GROUP_CONCAT(born) FROM people
SELECT name, born, YEAR(born), MONTH(born), DAY(born), DATEDIFF('2024-01-01', born), born + INTERVAL 1 MONTH, DATE_ADD(born, INTERVAL 1 DAY), DATE_SUB(seen, INTERVAL 1 HOUR) FROM people
SELECT DATE_FORMAT(seen, '%Y-%m-%d %H:%i:%s %W %M %D %j'), DAYNAME(born), MONTHNAME(born), WEEK(born), QUARTER(born), LAST_DAY(born), DAYOFWEEK(born), WEEKDAY(born), DAYOFYEAR(born) FROM people
SELECT STR_TO_DATE('03/05/2020','%d/%m/%Y'), STR_TO_DATE('May 3, 2020','%M %d, %Y'), STR_TO_DATE('2020-05-03 10:11:12','%Y-%m-%d %H:%i:%s'), STR_TO_DATE('x','%Y'), STR_TO_DATE('10:11','%H:%i')
SELECT NOW(), CURDATE(), CURTIME(), CURRENT_TIMESTAMP, UNIX_TIMESTAMP(), FROM_UNIXTIME(0), FROM_UNIXTIME(86400, '%Y'), DATE('2020-01-02 03:04:05'), TIME('2020-01-02 03:04:05'), TIMESTAMP('2020-01-02')
SELECT TIMESTAMPDIFF(YEAR, '2000-05-06', '2020-05-05'), TIMESTAMPDIFF(MONTH,'2020-01-31','2020-02-29'), TIMESTAMPDIFF(DAY,'2020-01-01','2020-03-01'), TIMESTAMPADD(MINUTE, 5, '2020-01-01 00:00:00'), EXTRACT(YEAR FROM '2020-02-03'), EXTRACT(DAY_HOUR FROM '2020-02-03 04:05:06'), TO_DAYS('2020-01-01'), FROM_DAYS(737790), MAKEDATE(2020, 60), SEC_TO_TIME(3661), TIME_TO_SEC('01:01:01')
SELECT CONCAT('a', 1, 2.50, NULL), CONCAT('a', 1, 2.50, 1e0), CONCAT_WS('-', 'a', NULL, 'b'), LEFT('hello', 2), RIGHT('hello', 3), SUBSTRING('hello', 2, 3), SUBSTRING('hello', -3), SUBSTRING_INDEX('a.b.c', '.', 2), SUBSTRING_INDEX('a.b.c', '.', -1), LOCATE('L', 'hello'), INSTR('hello', 'l'), POSITION('o' IN 'hello'), LPAD('5', 3, '0'), RPAD('ab', 5, 'xy'), REPEAT('ab', 3), REVERSE('abc'), CHAR_LENGTH('über'), LENGTH('über'), UPPER('straße'), LOWER('ABC'), TRIM('  x '), TRIM(LEADING 'x' FROM 'xxaxx'), REPLACE('aXa', 'x', 'y'), FIELD('b', 'a', 'B'), FIND_IN_SET('b', 'a,b,c'), ELT(2, 'a', 'b'), FORMAT(1234567.891, 2), INSERT('hello', 2, 2, 'XX'), STRCMP('a', 'B')
SELECT GREATEST(1, 2.5, 3), LEAST('b', 'A'), GREATEST(1, NULL), GREATEST('a', 1), LEAST(2, 1.5), GREATEST(born, '1995-01-01') FROM people
SELECT IF(1 > 2, 'a', 'b'), IFNULL(NULL, 3), NULLIF(1, 1), NULLIF('a', 'b'), COALESCE(NULL, NULL, 2.5), ISNULL(NULL), CASE WHEN 1 THEN 1 ELSE 2.5 END, CASE 'A' WHEN 'a' THEN 'x' END, IF(1, 1, 'a'), IFNULL(1, 'x')
SELECT CAST('12abc' AS SIGNED), CAST('12.7' AS SIGNED), CAST(12.7 AS SIGNED), CAST('12.756' AS DECIMAL(10,2)), CAST('x' AS DECIMAL), CAST(1.5 AS CHAR), CAST('2020-1-2' AS DATE), CAST('2020-01-02 3:4:5' AS DATETIME), CONVERT('5', UNSIGNED), CAST(5 AS DECIMAL(5,1)), CAST('1,234' AS DECIMAL(10,2)), CAST('abc' AS CHAR(2)), CAST(-5 AS SIGNED), CAST('-12.5' AS SIGNED)
SELECT 1 = 1.0, '1' = 1, 'a' = 'A', 'a' = 'á', 'a ' = 'a', NULL = NULL, NULL <=> NULL, 1 <=> NULL, 'abc' LIKE 'A%', 'abc' LIKE '_B_', 'a%c' LIKE 'a\%c', 'a%c' LIKE 'a|%c' ESCAPE '|', 'abc' REGEXP '^A', 'abc' NOT LIKE 'x%', 'abc' RLIKE 'b|x', 3 BETWEEN 1 AND 5, 'b' BETWEEN 'A' AND 'C', 2 IN (1,2,'3'), 'x' IN ('X','y'), NOT 0, !1, 1 XOR 1, 1 AND NULL, 0 AND NULL, 1 OR NULL, 2 IS TRUE, NULL IS NOT TRUE
SELECT 5 & 3, 5 | 3, 5 ^ 3, 1 << 3, 8 >> 1, ~0 & 1, BIT_COUNT(7)
SELECT PI(), EXP(1), LN(2), LOG(2, 8), LOG10(100), LOG2(8), SIN(1), DEGREES(PI()), RADIANS(180), ATAN2(1,2), COT(1), SQRT(-1), LOG(0)
SELECT RAND(1), RAND(5)
SELECT DATABASE(), 1
SELECT p.name, o.qty FROM people p JOIN orders o ON p.id = o.pid ORDER BY o.oid
SELECT p.name, COUNT(o.oid) n, SUM(o.qty * o.price) total FROM people p LEFT JOIN orders o ON p.id = o.pid GROUP BY p.id ORDER BY n DESC, p.name
SELECT p.name, SUM(o.qty*o.price)/COUNT(*) FROM people p, orders o WHERE p.id=o.pid GROUP BY p.name HAVING SUM(o.qty) > 1 ORDER BY 2 DESC
SELECT name FROM people WHERE id IN (SELECT pid FROM orders WHERE qty > 2)
SELECT name FROM people p WHERE EXISTS (SELECT 1 FROM orders o WHERE o.pid = p.id AND o.price > 50)
SELECT name, (SELECT MAX(price) FROM orders o WHERE o.pid = p.id) m FROM people p
SELECT name FROM people WHERE pay = (SELECT MAX(pay) FROM people)
SELECT (SELECT id FROM people)
SELECT name, RANK() OVER (ORDER BY pay DESC) r, ROW_NUMBER() OVER (PARTITION BY team ORDER BY id) n, SUM(pay) OVER (ORDER BY id) s, AVG(pay) OVER () a, LAG(name) OVER (ORDER BY id) l FROM people
WITH x AS (SELECT team, SUM(pay) s FROM people GROUP BY team) SELECT * FROM x ORDER BY s
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 5) SELECT SUM(n), COUNT(*) FROM c
SELECT 1 UNION SELECT 'a' UNION SELECT 2.5
SELECT name FROM people UNION SELECT b FROM t ORDER BY 1 LIMIT 3
SELECT id FROM people UNION ALL SELECT qty FROM orders
SELECT 1.5 UNION SELECT 2
SELECT name, pay FROM people ORDER BY pay DESC LIMIT 1, 2
SELECT team, name FROM people GROUP BY team
SELECT name, COUNT(*) FROM people
SELECT YEAR(born) y, COUNT(*) FROM people GROUP BY y
SELECT YEAR(born), COUNT(*) FROM people GROUP BY YEAR(born) ORDER BY COUNT(*) DESC, YEAR(born)
SELECT team, COUNT(*) c FROM people GROUP BY team HAVING c > 1
SELECT * FROM people p JOIN orders o ON p.id=o.pid WHERE o.price > 9.99 AND p.pay > '1000'
SELECT * FROM orders JOIN people USING (id)
SELECT x FROM people
SELECT name FROM nosuch
SELECT id FROM people, orders WHERE nosuch = 1
SELECT name FROM people ORDER BY nosuch
SELECT name FROM people GROUP BY nosuch
SELECT pid FROM orders o1, orders o2
SELECT NOSUCH(1)
SELECT CONCAT()
SELECT * FROM people WHERE COUNT(*) > 1
SELECT * FORM people
SELECT
SELEC 1
SELECT 1 FROM
SELECT 'abc
SELECT * FROM people WHERE
SELECT name FROM people WHERE born > '1990-01-01'
SELECT name FROM people WHERE born = 'abc'
SELECT name FROM people WHERE seen > '2023-05-06' AND seen < '2023-05-07'
SELECT name FROM people WHERE seen LIKE '2023%'
SELECT name FROM people WHERE pay = 1000.5
SELECT name FROM people WHERE pay = '1000.5'
SELECT name FROM people WHERE id = '1abc'
SELECT name FROM people WHERE name = 0
SELECT id, score * 2, score + 1, score / 2, pay * 2, pay / 3, pay + score, id / 3, id * 1.5, -pay, id - 5 FROM people
SELECT COUNT(*) FROM people WHERE note IS NULL
SELECT DISTINCT team FROM people ORDER BY team DESC
SELECT MAX(name), MIN(name), MAX(born), MIN(seen), MAX(note) FROM people
SELECT COUNT(DISTINCT team, name) FROM people
SELECT BIT_AND(id), BIT_OR(id), BIT_XOR(id) FROM people
SELECT SUM(1), SUM(NULL), AVG(NULL), MAX(NULL), COUNT(NULL) FROM people WHERE 0
SELECT SUM(id) FROM people WHERE 0
SELECT MAX(b) FROM t
SELECT * FROM t WHERE a
SELECT IF(a, 'yes', 'no') FROM t
SELECT NOT a FROM t
SELECT a FROM t ORDER BY a + 0 DESC
SELECT a FROM t ORDER BY CAST(c AS DECIMAL(10,2))
SELECT c + 0 FROM t
SELECT REPLACE(c, '.', ',') FROM t
SELECT 1 FROM DUAL
SELECT dbbench.people.name FROM dbbench.people LIMIT 1
SELECT `people`.`name` FROM `dbbench`.`people` LIMIT 1
SELECT p.* FROM people AS p LIMIT 1
SELECT * FROM (SELECT name FROM people) x LIMIT 1
SELECT * FROM (SELECT name FROM people)
SELECT id, id FROM people LIMIT 1
SELECT * FROM people WHERE (id, team) = (1, 1)
SELECT * FROM people WHERE (id, team) IN ((1, 1), (2, 2))
SELECT id FROM people WHERE pay > ALL (SELECT price * 10 FROM orders)
SELECT id FROM people WHERE team = ANY (SELECT qty FROM orders)
SELECT id DIV 2, id MOD 2 FROM people
SELECT FORMAT(pay, 1), ROUND(pay, 1), TRUNCATE(pay, 0), CEIL(pay), ROUND(score, 1), ROUND(pay) FROM people
SELECT CONCAT(name, ' ', pay, ' ', score, ' ', born) FROM people
SELECT name FROM people WHERE name REGEXP '^[a-c]'
SELECT name FROM people WHERE name LIKE '%n'
SELECT REGEXP_REPLACE('abc123', '[0-9]+', 'X'), REGEXP_SUBSTR('abc123', '[0-9]+'), REGEXP_INSTR('abc123', '[0-9]'), REGEXP_LIKE('a', 'A')
SELECT id, CASE WHEN pay > 1500 THEN 'high' WHEN pay > 1000 THEN 'mid' ELSE 'low' END FROM people
SELECT id, CASE WHEN id = 1 THEN pay ELSE id END, CASE WHEN id=1 THEN born ELSE name END FROM people
SELECT SUM(CASE WHEN team = 1 THEN 1 ELSE 0 END), SUM(team = 1), SUM(IF(team=1, pay, 0)) FROM people
SELECT AVG(qty), AVG(price), AVG(qty*price), SUM(qty*price), SUM(qty)/3, SUM(price)*1.5 FROM orders
SELECT 100 * SUM(qty) / (SELECT SUM(qty) FROM orders) FROM orders WHERE pid = 1
SELECT ROUND(AVG(pay), 2), ROUND(AVG(score), 2), ROUND(SUM(pay)/2, 3) FROM people
SHOW TABLES
SHOW TABLES LIKE 'p%'
SHOW FULL TABLES
SHOW DATABASES
SHOW COLUMNS FROM people
SHOW FULL COLUMNS FROM t
DESCRIBE people
DESC t
DESC orders
DESC nosuch
DESCRIBE t a
SHOW CREATE TABLE t
SHOW CREATE TABLE people
SHOW CREATE TABLE orders
SHOW COLUMNS FROM nosuch
SHOW TABLES FROM mysql
SELECT table_name FROM information_schema.tables WHERE table_schema = 'dbbench'
SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()
SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'people' ORDER BY ordinal_position
SELECT schema_name FROM information_schema.schemata
SELECT * FROM mysql.user
SELECT * FROM nosuch.t
USE mysql
USE dbbench
SET @a = 5
SELECT @a + 1, @nosuch
SET NAMES utf8mb4
SET sql_mode = ''
START TRANSACTION
COMMIT
SELECT @@version IS NULL
SELECT 1; SELECT 2
SELECT 1;
;
--
INSERT INTO people (id, name) VALUES (5, 'Eve')
INSERT INTO people VALUES (6, 'Fay', '2000-1-2', 12.345, '1.5', '7', '2020-01-02', 'x')
INSERT INTO people (id) VALUES (1)
INSERT INTO people (name) VALUES ('x')
INSERT INTO people (id, name) VALUES (NULL, 'x')
INSERT INTO people (id, team) VALUES (20, 'abc')
INSERT INTO people (id, team) VALUES (20, '12abc')
INSERT INTO people (id, team) VALUES (20, '')
INSERT INTO people (id, team) VALUES (20, 99999999999)
INSERT INTO people (id, name) VALUES (20, 'this name is far too long for the column')
INSERT INTO people (id, born) VALUES (20, 'abc')
INSERT INTO people (id, born) VALUES (20, '2020-02-30')
INSERT INTO people (id, born) VALUES (20, '')
INSERT INTO people (id, pay) VALUES (20, 'abc')
INSERT INTO people (id, pay) VALUES (20, 123456789012)
INSERT INTO people (id, pay) VALUES (20, '12.5abc')
INSERT INTO people (id, score) VALUES (20, 'abc')
INSERT INTO people (id, seen) VALUES (20, 'now')
INSERT INTO people (id, name) VALUES (30, 'a'), (31, 'b'), (30, 'c')
SELECT COUNT(*) FROM people
INSERT INTO people (id, name, team) VALUES (1, 'a')
INSERT INTO people (id, nosuch) VALUES (1, 2)
INSERT INTO people (id, id) VALUES (1, 2)
INSERT INTO nosuch VALUES (1)
INSERT INTO people VALUES (1)
INSERT INTO orders VALUES (50, 99, 1, 1)
INSERT INTO orders VALUES (50, 1, 1.6, '1.005')
INSERT INTO orders VALUES (51, NULL, 1+1, 2*1.5)
SELECT * FROM orders ORDER BY oid
DELETE FROM people WHERE id = 1
UPDATE people SET id = 100 WHERE id = 1
UPDATE people SET pay = pay * 1.1 WHERE id = 2
SELECT pay FROM people WHERE id = 2
UPDATE people SET team = 'x' WHERE id = 2
UPDATE people SET name = CONCAT(name, '!'), note = name WHERE id = 2
SELECT name, note FROM people WHERE id = 2
UPDATE people SET id = 2 WHERE id = 3
UPDATE people SET nosuch = 1
UPDATE people SET name = 'x' WHERE nosuch = 1
UPDATE nosuch SET a = 1
UPDATE people SET name = NULL WHERE id = 3
UPDATE people SET id = NULL WHERE id = 3
UPDATE people SET pay = 1 ORDER BY id DESC LIMIT 1
SELECT id, pay FROM people
UPDATE people p JOIN orders o ON p.id = o.pid SET p.note = o.qty WHERE o.oid = 10
SELECT note FROM people WHERE id = 1
UPDATE people, orders SET people.note = 'q' WHERE people.id = orders.pid AND orders.oid = 12
UPDATE people SET pay = (SELECT MAX(pay) FROM people) WHERE id = 1
UPDATE people SET pay = (SELECT m FROM (SELECT MAX(pay) m FROM people) x) WHERE id = 1
DELETE FROM orders WHERE oid = 50
DELETE FROM orders ORDER BY oid DESC LIMIT 1
DELETE o FROM orders o JOIN people p ON o.pid = p.id WHERE p.name = 'Ann'
SELECT * FROM orders
DELETE FROM t WHERE a = 1
DELETE FROM t WHERE a = 'abc'
SELECT a, b FROM t
DELETE FROM nosuch
INSERT INTO t SET a = 'z', b = 5
INSERT INTO t (a, b) VALUES (1.50, TRUE), (2e3, NULL), (1/3, 'q')
SELECT * FROM t
REPLACE INTO people (id, name) VALUES (6, 'Gus')
SELECT name, born FROM people WHERE id = 6
INSERT INTO people (id, name) VALUES (6, 'Hal') ON DUPLICATE KEY UPDATE name = VALUES(name), team = IFNULL(team, 0) + 1
INSERT INTO people (id, name) VALUES (6, 'Ian') AS new ON DUPLICATE KEY UPDATE name = new.name
SELECT name, team FROM people WHERE id = 6
INSERT IGNORE INTO people (id, name) VALUES (6, 'X'), (7, 'Jo')
INSERT IGNORE INTO people (id, team, name, born) VALUES (8, '12abc', 'this name is far too long for the column', 'abc')
SELECT id, name, team, born FROM people WHERE id IN (7, 8)
INSERT INTO t (a) SELECT name FROM people WHERE id < 3
SELECT a FROM t
TRUNCATE TABLE people
TRUNCATE t
SELECT COUNT(*) FROM t
UPDATE people SET born = '2020-13-01'
UPDATE people SET pay = 1/0
UPDATE people SET pay = 'a' + 1 WHERE id = 3
UPDATE people SET note = 12.50, name = 1e3, team = 2.5, score = '3' WHERE id = 3
SELECT note, name, team, score FROM people WHERE id = 3
UPDATE people SET team = 3.5 WHERE id = 3
SELECT team FROM people WHERE id = 3
UPDATE people SET name = DEFAULT WHERE id = 3
--
CREATE TABLE a (id INT AUTO_INCREMENT PRIMARY KEY, n VARCHAR(10) NOT NULL DEFAULT 'x', e ENUM('a','b') DEFAULT 'a', ts TIMESTAMP DEFAULT CURRENT_TIMESTAMP, u VARCHAR(5) UNIQUE, b BOOLEAN, KEY k (n))
DESCRIBE a
SHOW CREATE TABLE a
SHOW COLUMNS FROM a
INSERT INTO a (n) VALUES ('one'), ('two')
INSERT INTO a () VALUES ()
INSERT INTO a (id, u) VALUES (10, 'q'), (NULL, 'r')
INSERT INTO a VALUES (DEFAULT, DEFAULT, 'b', DEFAULT, 's', TRUE)
INSERT INTO a (u) VALUES ('Q')
INSERT INTO a (e) VALUES ('c')
INSERT INTO a (n) VALUES (NULL)
ALTER TABLE a ADD COLUMN x INT NOT NULL AFTER n, DROP COLUMN b
ALTER TABLE a ADD COLUMN y DECIMAL(5,2) DEFAULT 1.5 FIRST
ALTER TABLE a MODIFY x BIGINT NULL, CHANGE n name VARCHAR(20)
DESCRIBE a
ALTER TABLE a RENAME COLUMN name TO nm
ALTER TABLE a ADD UNIQUE (nm)
ALTER TABLE a ADD INDEX (x), DROP INDEX u
ALTER TABLE a DROP COLUMN nosuch
ALTER TABLE a ADD COLUMN x INT
ALTER TABLE nosuch ADD COLUMN x INT
ALTER TABLE a RENAME TO a2
SELECT COUNT(*) FROM a2
RENAME TABLE a2 TO a3
DROP TABLE a
DROP TABLE IF EXISTS a
DROP TABLE a3
CREATE TABLE a (x INT, x INT)
CREATE TABLE people (x INT)
CREATE TABLE IF NOT EXISTS people (x INT)
CREATE TABLE b AS SELECT id, name, pay * 2 AS dbl, born, score, COUNT(*) OVER () n FROM people
SELECT * FROM b
CREATE TABLE c2 LIKE people
DESCRIBE c2
CREATE VIEW v AS SELECT id, UPPER(name) un, pay + 1 FROM people WHERE id < 3
SELECT * FROM v
SHOW FULL TABLES
DROP VIEW v
CREATE TEMPORARY TABLE tmp (a INT, b TEXT)
INSERT INTO tmp VALUES (1, 'x')
SELECT * FROM tmp
SHOW TABLES
DROP TABLE people
DROP TABLE orders, people
SHOW TABLES
CREATE INDEX i ON t (a(10))
CREATE INDEX i ON b (id)
DROP INDEX i ON b
DROP INDEX nosuch ON b
CREATE TABLE chk (a INT CHECK (a > 0), b INT, CONSTRAINT bb CHECK (b < a))
INSERT INTO chk VALUES (0, 0)
INSERT INTO chk VALUES (5, 9)
INSERT INTO chk VALUES (5, 1)
CREATE TABLE d1 (a DATE, b DATETIME, c TIME, d YEAR, e FLOAT, f DOUBLE, g BIGINT UNSIGNED, h TINYINT, i CHAR(3), j BLOB, k DECIMAL(6,3), l SET('x','y'))
INSERT INTO d1 VALUES ('2020-01-02 10:00:00', 20200102030405, 10203, 2020, 1e10, 1e-10, 5, -128, 'ab', x'00ff', '-0.0004', '')
INSERT INTO d1 (h) VALUES (128)
INSERT INTO d1 (i) VALUES ('abcd')
INSERT INTO d1 (d) VALUES (1800)
INSERT INTO d1 (g) VALUES (-1)
INSERT INTO d1 (c) VALUES ('x')
INSERT INTO d1 (b) VALUES ('2020-01-02 25:00:00')
CREATE TABLE fk (a INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES c2 (id) ON DELETE CASCADE)
INSERT INTO c2 (id) VALUES (1), (2)
INSERT INTO fk VALUES (1, 1), (2, 2)
INSERT INTO fk VALUES (3, 3)
DELETE FROM c2 WHERE id = 1
SELECT * FROM fk
CREATE TABLE fk2 (a INT, FOREIGN KEY (a) REFERENCES nosuch (id))
CREATE TABLE bad (a INT AUTO_INCREMENT)
CREATE TABLE bad ()
CREATE TABLE bad (a NOSUCH)
CREATE DATABASE x
GRANT ALL ON *.* TO x
SELECT 1 INTO OUTFILE '/tmp/x'
SELECT LOAD_FILE('/etc/passwd')
LOAD DATA INFILE '/etc/passwd' INTO TABLE t
--
UPDATE t SET b = 'z' WHERE a = 12
SELECT a, b FROM t
--
UPDATE t SET b = 'z' WHERE a + 0 = 12
SELECT a, b FROM t
--
DELETE FROM t WHERE a > 1
SELECT a, b FROM t
--
UPDATE t SET b = a + 1
SELECT a, b FROM t
--
UPDATE t SET b = a + 1 WHERE b = 'alpha'
UPDATE t SET b = CAST(a AS SIGNED)
SELECT a, b FROM t
--
UPDATE t SET b = 1 WHERE CAST(a AS SIGNED) = 12
SELECT a, b FROM t
--
UPDATE t SET b = ROUND(c, 1)
SELECT a, b FROM t
--
UPDATE t SET b = CAST(c AS DECIMAL(10,2)) * 2
SELECT a, b FROM t
--
DELETE FROM t WHERE CAST(c AS DECIMAL(10,2)) > 2
SELECT a, b FROM t
--
INSERT INTO t (a) SELECT a + 1 FROM t
SELECT a FROM t
--
INSERT INTO t (a) SELECT MAX(c + 0) FROM t
SELECT a FROM t
--
UPDATE t SET b = 'q' WHERE a IN (1, 12)
SELECT a, b FROM t
--
UPDATE t SET b = 'q' WHERE a BETWEEN 1 AND 2
SELECT a, b FROM t
--
UPDATE t SET b = IF(a > 2, 'big', 'small')
SELECT a, b FROM t
--
UPDATE people SET name = 'w' WHERE name = 0
SELECT name FROM people
--
UPDATE people SET pay = pay / 0 WHERE id = 1
UPDATE people SET note = 10 / 0 WHERE id = 1
UPDATE people SET note = 'x' WHERE 1/0
DELETE FROM people WHERE id = 1/0
UPDATE people SET pay = note + 1 WHERE id = 1
UPDATE people SET pay = SUM(1)
UPDATE people SET note = id + note WHERE id = 2
UPDATE t SET a = CONCAT(a, 1), c = c * 2 WHERE b = 'beta'
SELECT * FROM t
SELECT 'a' + 1, '5 apples' + 0, 'x' = 0, '' = 0
CREATE TABLE z AS SELECT a + 0 AS n FROM t
INSERT INTO people (id, name, pay) VALUES (9, 1.50, '1,000')
INSERT INTO people (id, pay) VALUES (9, '  12.5  ')
INSERT INTO people (id, team) VALUES (10, ' 12 ')
INSERT INTO people (id, team) VALUES (11, '1e2')
INSERT INTO people (id, team) VALUES (12, TRUE)
INSERT INTO people (id, born) VALUES (13, 20200102)
INSERT INTO people (id, born) VALUES (14, '2020/01/02')
INSERT INTO people (id, born) VALUES (15, 'January 4, 2020')
INSERT INTO people (id, born) VALUES (16, '0000-00-00')
INSERT INTO people (id, seen) VALUES (17, '2020-01-02T03:04:05')
INSERT INTO people (id, seen) VALUES (18, '2020-01-02 03:04:05.6')
INSERT INTO people (id, name) VALUES (19, 'trailing            ')
SELECT id, name, born, pay, team, seen FROM people WHERE id > 8
SELECT CONCAT('[', name, ']') FROM people WHERE id = 19
--
UPDATE t SET b = CONCAT(a, '') + 1
SELECT b FROM t
UPDATE t SET b = REPLACE(c, '.', '') * 2
UPDATE t SET b = SUBSTRING(b, 1, 2) + 1
UPDATE people SET name = 'w' WHERE name = 0
UPDATE people SET score = 'x1'
SELECT 2/3*3, AVG(qty)*3, AVG(price)/3, 1/3+1/3 FROM orders
SELECT GREATEST(1, 2.50), GREATEST(3, 2.50), COALESCE(NULL, 1, 2.5), IFNULL(id, 2.5), CASE WHEN id > 2 THEN 1.25 ELSE 2.5 END FROM people
SELECT MAX(CASE WHEN id > 2 THEN 1.25 ELSE 2 END), SUM(CASE WHEN id > 2 THEN 1.25 ELSE 2 END), AVG(IF(id > 2, 1.25, 0)) FROM people
SELECT ROUND(SUM(pay) / COUNT(*), 2), ROUND(SUM(score) / COUNT(*), 3), SUM(pay) / SUM(id), ROUND(100.0 * SUM(team = 1) / COUNT(*), 2), 100 * SUM(team=1)/COUNT(*) FROM people
SELECT team, AVG(pay), MAX(pay) - MIN(pay), COUNT(*) * 1.5 FROM people GROUP BY team ORDER BY team
SELECT name FROM people ORDER BY team, name DESC
SELECT name FROM people ORDER BY ISNULL(team), -id
SELECT team, GROUP_CONCAT(name ORDER BY pay DESC) FROM people GROUP BY team
SELECT p.team, SUM(o.qty) FROM people p JOIN orders o ON o.pid = p.id GROUP BY p.team
SELECT o.pid, COUNT(*) FROM orders o GROUP BY o.pid
SELECT qty, COUNT(*) FROM orders GROUP BY qty
SELECT price > 5, COUNT(*) FROM orders GROUP BY price > 5
SELECT DISTINCT qty FROM orders
SELECT b, c FROM t ORDER BY c
SELECT b FROM t ORDER BY b DESC
SELECT * FROM people p LEFT JOIN orders o ON p.id = o.pid AND o.qty > 2 ORDER BY p.id, o.oid
SELECT * FROM people p RIGHT JOIN orders o ON p.id = o.pid ORDER BY o.oid
SELECT a.name, b.name FROM people a JOIN people b ON a.id < b.id ORDER BY 1, 2
SELECT COUNT(*) FROM people CROSS JOIN orders
SELECT name FROM people WHERE id NOT IN (SELECT pid FROM orders WHERE pid IS NOT NULL)
SELECT name FROM people WHERE note IS NULL OR note = ''
SELECT name, pay FROM people WHERE pay BETWEEN 1000 AND 1600 ORDER BY pay
SELECT name, pay FROM people WHERE pay >= '1500.25'
SELECT name FROM people WHERE born BETWEEN '1985-01-01' AND '1995-01-01'
SELECT name FROM people WHERE YEAR(born) = '1990'
SELECT name FROM people WHERE MONTH(seen) = 5 AND DAY(seen) = 6
SELECT name FROM people WHERE DATE(seen) = '2023-05-06'
SELECT name FROM people WHERE seen = '2023-05-06 07:08:09'
SELECT name FROM people WHERE born > 19900101
SELECT born + 0, seen + 0, born - born FROM people
SELECT born, DATE_ADD(born, INTERVAL 1 YEAR), ADDDATE(born, 10), DATE_ADD('2020-01-31', INTERVAL 1 MONTH), DATE_ADD('2020-01-31 10:00:00', INTERVAL '1:30' HOUR_MINUTE), DATE_SUB('2020-01-01', INTERVAL 1 SECOND) FROM people
SELECT TIMEDIFF('10:00:00', '09:30:00'), TIMEDIFF('2020-01-02 00:00:00', '2020-01-01 23:00:00'), ADDDATE('2020-01-01', INTERVAL 1 WEEK), PERIOD_ADD(202001, 3), YEARWEEK('2020-01-05'), WEEK('2020-01-05', 1), WEEKOFYEAR('2020-12-31'), MAKETIME(1,2,3), HOUR('10:11:12'), MINUTE('2020-01-01 10:11:12')
SELECT name LIKE 'A%', name LIKE BINARY 'a%', BINARY name = 'ann', name = BINARY 'Ann', name COLLATE utf8mb4_bin = 'ann' FROM people WHERE id = 1
SELECT ROW_NUMBER() OVER (ORDER BY price) n, price FROM orders
SELECT pid, price, RANK() OVER (PARTITION BY pid ORDER BY price DESC) r FROM orders
SELECT oid, SUM(qty) OVER (ORDER BY oid ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) s FROM orders
SELECT * FROM (SELECT pid, price, ROW_NUMBER() OVER (PARTITION BY pid ORDER BY price DESC) rn FROM orders) x WHERE rn = 1
SELECT p.name, (SELECT COUNT(*) FROM orders o WHERE o.pid = p.id) c FROM people p ORDER BY c DESC, name
SELECT * FROM people ORDER BY pay DESC LIMIT 1
SELECT name FROM people WHERE pay = (SELECT MIN(pay) FROM people)
SELECT COUNT(*), SUM(qty) FROM orders WHERE price > (SELECT AVG(price) FROM orders)
SELECT CONCAT(name, ' (', IFNULL(team, 'none'), ')') FROM people
SELECT name, IF(team IS NULL, 'n/a', team) FROM people
SELECT UPPER(name), LOWER(name), LENGTH(note), CHAR_LENGTH(note) FROM people
SELECT CAST(pay AS SIGNED), CAST(pay AS CHAR), CAST(score AS DECIMAL(10,1)), CAST(born AS CHAR), CAST(id AS DECIMAL(5,2)), CAST(pay AS DOUBLE), CAST(score AS SIGNED), CAST(seen AS DATE), CAST(seen AS TIME) FROM people
SELECT 5 DIV 0, 5 % 0, MOD(5, 0), 5.5 DIV 2, '7' DIV 2
SELECT 18446744073709551615, 9999999999999999999999
SELECT 123456789.123456789 * 987654321.987654321, 1.0000000001 / 3, POW(2, 0.5), 1e15, 1e16, 1.5e-7, 123456789012345678.0
SELECT CONCAT(1e15), CONCAT(1e14), CONCAT(1.5e-7), CONCAT(0.00001e0), CONCAT(123456.789e0), CONCAT(1e-15), CONCAT(1e-16), CONCAT(1/3e0)
SELECT CONCAT(1e15, ''), CONCAT(0.1 + 0.2), CONCAT(1/3), CONCAT(TRUE), CONCAT(born) FROM people LIMIT 1
SELECT NULL + 1, NULL = 1, CONCAT(NULL), NULL AND 1, NULL OR 1, COUNT(*) FROM people
SELECT 'a' || 'b', '1' || '0', 1 && 0
SELECT IF('abc', 1, 2), IF('1abc', 1, 2), IF(0.5, 1, 2), IF(NULL, 1, 2), IF('0.0', 1, 2)
SELECT * FROM people WHERE name
SELECT a.* FROM people
SELECT nosuch.name FROM people
SELECT people.nosuch FROM people
SELECT name FROM people HAVING pay > 1000
SELECT name, pay p FROM people HAVING p > 1000
SELECT name n FROM people WHERE n = 'Ann'
SELECT COUNT(*) FROM people HAVING COUNT(*) > 10
SELECT MAX(COUNT(*)) FROM people GROUP BY team
SELECT team + 1, COUNT(*) FROM people GROUP BY team
SELECT team, name FROM people GROUP BY team, id
SELECT id, name FROM people GROUP BY id
SELECT name FROM people GROUP BY team HAVING COUNT(*) > 1
SELECT COUNT(*) c FROM people GROUP BY team ORDER BY name
SELECT SUM(pay) FROM people GROUP BY nosuch
SELECT 1, 2 UNION SELECT 1
SELECT name FROM people UNION ALL SELECT team FROM people
(SELECT name FROM people ORDER BY pay LIMIT 1) UNION ALL (SELECT name FROM people ORDER BY pay DESC LIMIT 1)
SELECT name FROM people WHERE id = 1 UNION SELECT name FROM people WHERE id = 2 ORDER BY name DESC
SELECT name FROM people INTERSECT SELECT b FROM t
SELECT name FROM people EXCEPT SELECT 'Ann'
VALUES ROW(1, 'a'), ROW(2, 'b')
TABLE orders
SELECT * FROM people LIMIT 2 OFFSET 1
SELECT * FROM people LIMIT -1
SELECT * FROM people LIMIT 'a'
SELECT name FROM people FOR UPDATE
SELECT SQL_CALC_FOUND_ROWS name FROM people LIMIT 1
SELECT name AS 'the name', pay "p" FROM people LIMIT 1
SELECT STRAIGHT_JOIN p.id FROM people p JOIN orders o ON o.pid = p.id ORDER BY 1 LIMIT 1
SELECT /* c */ 1 -- x
SELECT 1 # y
SHOW VARIABLES LIKE 'sql_mode'
SHOW WARNINGS
SELECT USER(), CURRENT_USER()
SELECT VERSION() > '5'
CALL nosuch()
DO 1
HELP 'x'
SELECT SLEEP(0)
SELECT FOUND_ROWS() >= 0, ROW_COUNT() <= 0
LOCK TABLES people READ
UNLOCK TABLES
CHECK TABLE people
--
SELECT name, pay FROM people WHERE name = "Ann"
SELECT * FROM people WHERE `name` LIKE '%a%' OR note LIKE '%z%' ORDER BY `born` IS NULL, born
SELECT COUNT(*) AS total, COUNT(DISTINCT team) AS teams FROM people
SELECT team, COUNT(*) AS n FROM people WHERE team IS NOT NULL GROUP BY team ORDER BY n DESC, team LIMIT 1
SELECT AVG(CAST(c AS DECIMAL(10,2))) FROM t WHERE c REGEXP '^-?[0-9.]+$'
SELECT SUM(REPLACE(c, ',', '')) FROM t
SELECT CAST(REPLACE(c, '.', '') AS UNSIGNED) FROM t WHERE c IS NOT NULL
SELECT MAX(CAST(a AS SIGNED)) FROM t
SELECT b FROM t ORDER BY CAST(c AS DECIMAL(10, 2)) DESC LIMIT 1
SELECT b FROM t ORDER BY c * 1 DESC LIMIT 2
SELECT b FROM t WHERE c + 0 > 2 AND c NOT LIKE '%x%'
SELECT p.name FROM people AS p INNER JOIN orders AS o ON p.id = o.pid GROUP BY p.id, p.name HAVING COUNT(*) >= 2
SELECT name, TIMESTAMPDIFF(YEAR, born, '2024-01-01') AS age FROM people ORDER BY age DESC
SELECT name FROM people WHERE born = (SELECT MAX(born) FROM people)
SELECT CONCAT(ROUND(100.0 * COUNT(*) / (SELECT COUNT(*) FROM people), 1), '%') FROM people WHERE team = 1
SELECT name, CASE WHEN score IS NULL THEN 'none' ELSE ROUND(score, 1) END FROM people
SELECT SUBSTRING_INDEX(SUBSTRING_INDEX('a,b,c', ',', 2), ',', -1), TRIM(BOTH '"' FROM '"x"'), LTRIM('  x'), RTRIM('x  ')
SELECT DISTINCT p.name FROM people p JOIN orders o ON o.pid = p.id WHERE o.price > 5 ORDER BY p.name
SELECT o.oid, p.name, o.qty * o.price AS total FROM orders o LEFT JOIN people p ON p.id = o.pid WHERE o.qty * o.price > 20 ORDER BY total DESC
SELECT name FROM people WHERE id IN (1, '2', 3.0)
SELECT name FROM people WHERE (team = 1 AND pay > 1200) OR score IS NULL
SELECT SUM(qty) AS s, MIN(price), MAX(price), AVG(price) FROM orders WHERE pid IN (SELECT id FROM people WHERE team = 1)
SELECT pay - LAG(pay) OVER (ORDER BY id) FROM people
SELECT COALESCE(note, 'n/a'), IFNULL(score, 0), NULLIF(team, 1) FROM people
SELECT name FROM people WHERE YEAR(seen) = 2023 AND HOUR(seen) = 7
SELECT DATE_FORMAT(born, '%M %e, %Y') FROM people WHERE born IS NOT NULL
SELECT name FROM people WHERE seen >= '2023-01-01' AND seen < '2024-01-01'
SELECT COUNT(*) FROM people WHERE note != 'hello'
SELECT COUNT(*) FROM people WHERE NOT (note = 'hello')
SELECT COUNT(*) FROM people WHERE note <> '' AND note IS NOT NULL
SELECT name FROM people WHERE LOWER(name) = LOWER('ANN')
SELECT name FROM people WHERE LENGTH(name) = 3 ORDER BY name DESC
SELECT t1.name, t2.name FROM people t1, people t2 WHERE t1.team = t2.team AND t1.id < t2.id
SELECT * FROM (SELECT name, pay FROM people ORDER BY pay DESC LIMIT 2) AS x ORDER BY pay
SELECT (SELECT COUNT(*) FROM people) - (SELECT COUNT(*) FROM orders) AS d
SELECT EXISTS (SELECT 1 FROM people WHERE name = 'Zed') AS e
SELECT name FROM people ORDER BY RAND(3)
SELECT ROUND(pay * 1.175, 2), FLOOR(pay / 100), pay % 100, pay DIV 7 FROM people
SELECT SUM(pay) / COUNT(DISTINCT team) FROM people
SELECT MIN(LENGTH(name)), MAX(CHAR_LENGTH(note)) FROM people
SELECT * FROM people WHERE pay = (SELECT pay FROM people ORDER BY pay DESC LIMIT 1 OFFSET 1)
SELECT name FROM people p WHERE pay > (SELECT AVG(pay) FROM people q WHERE q.team = p.team)
SELECT STDDEV_POP(pay), VAR_SAMP(pay), STD(id) FROM people
SELECT name, pay, SUM(pay) OVER (PARTITION BY team) FROM people ORDER BY name
SELECT IF(COUNT(*) > 3, 'many', 'few') FROM people
SELECT a, COUNT(*) FROM t GROUP BY a HAVING COUNT(*) > 1
SELECT SUM(a) FROM t WHERE b = 'nobody'
SELECT COUNT(a), COUNT(c), COUNT(*) FROM t
SELECT MAX(c), MIN(c) FROM t
SELECT name FROM people WHERE team = NULL
SELECT 'it''s', 'a\'b', "say ""hi""", 'tab\tnew\\n'
SELECT N'x', _utf8mb4'y', 'a' 'b', 0x41, b'1', 1.0e2, .5, 5.
SELECT `name` AS 'n' FROM people ORDER BY 'n'
SELECT pay AS p FROM people WHERE pay > 1000 HAVING p < 1800 ORDER BY p
SELECT CURRENT_DATE + INTERVAL 1 DAY, DATE('2024-02-28') + INTERVAL 2 DAY, NOW() - INTERVAL 1 HOUR
SELECT CHAR_LENGTH(REPEAT('é', 5)), LENGTH(REPEAT('é', 5)), REVERSE('né'), LEFT('né', 2)
UPDATE people SET pay = ROUND(pay * 1.1, 2), note = CONCAT(IFNULL(note, ''), '!') WHERE team = 1
SELECT pay, note FROM people
UPDATE people SET born = DATE_ADD(born, INTERVAL 1 YEAR), seen = NOW() WHERE id <= 2
SELECT born, seen FROM people
UPDATE orders SET price = price + 0.005 WHERE oid = 10
SELECT price FROM orders WHERE oid = 10
INSERT INTO orders (oid, pid, qty, price) SELECT 100 + oid, pid, qty, price * 2 FROM orders WHERE qty > 2
SELECT * FROM orders
DELETE FROM orders WHERE pid IN (SELECT id FROM people WHERE name = 'Bob')
DELETE FROM people WHERE id NOT IN (SELECT pid FROM orders)
SELECT id FROM people
INSERT INTO people (id, name, born) VALUES (77, 'Q', NOW())
INSERT INTO people (id, seen) VALUES (78, CURDATE())
SELECT born, seen FROM people WHERE id > 70
UPDATE people SET name = id, score = pay, team = score, note = born WHERE id = 77
SELECT name, score, team, note FROM people WHERE id = 77
INSERT INTO t VALUES ('x')
INSERT INTO t VALUES ('x', 'y', 'z', 'w')
INSERT INTO t (a, b) VALUES ('x', 'y', 'z')
INSERT INTO `t` VALUES (NULL, '', ' ')
SELECT * FROM t WHERE b = ''
SELECT ~0, ~5, 1 << 63, 18446744073709551615 & 3, CAST(-1 AS UNSIGNED), BIT_XOR(id) | 9223372036854775808 FROM people
