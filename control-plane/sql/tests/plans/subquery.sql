SELECT id FROM orders WHERE id IN (SELECT order_id FROM payments);
SELECT id FROM orders WHERE id NOT IN (SELECT order_id FROM payments);
SELECT id FROM payments WHERE id NOT IN (SELECT id FROM payments WHERE paid > 3);
SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM payments p WHERE p.order_id = o.id AND p.paid > o.amount);
SELECT id FROM orders o WHERE NOT EXISTS (SELECT 1 FROM payments p WHERE p.order_id = o.id);
SELECT id, (SELECT MAX(paid) FROM payments) AS m FROM orders;
SELECT id FROM orders o WHERE amount > (SELECT AVG(amount) + 1 FROM orders i WHERE i.product = o.product);
SELECT id, (SELECT COUNT(*) FROM payments p WHERE p.order_id = o.id) AS n FROM orders o;
SELECT id, (SELECT paid FROM payments p WHERE p.order_id = o.id) AS n FROM orders o;
SELECT id FROM orders o WHERE qty > 5 OR EXISTS (SELECT 1 FROM payments p WHERE p.order_id = o.id);
SELECT id FROM orders o WHERE qty > 5 OR id IN (SELECT order_id FROM payments p);
SELECT id, (SELECT MAX(paid) FROM payments p WHERE p.order_id = o.id) AS m FROM orders o;
SELECT id, (SELECT COALESCE(SUM(paid), 0) FROM payments p WHERE p.order_id = o.id) AS s FROM orders o;
SELECT id, (SELECT COUNT(*) FROM payments p WHERE p.order_id = o.id HAVING COUNT(*) > 1) AS n FROM orders o;
SELECT id, (SELECT COUNT(*) FROM payments p WHERE p.order_id = o.id HAVING COUNT(*) < 2) AS n FROM orders o;
SELECT id FROM orders o WHERE amount IN (SELECT SUM(paid) FROM payments p WHERE p.order_id = o.id);
SELECT id FROM orders o WHERE amount NOT IN (SELECT SUM(paid) FROM payments p WHERE p.order_id = o.id);
SELECT id FROM orders o WHERE 0 IN (SELECT COUNT(*) FROM payments p WHERE p.order_id = o.id);
SELECT id FROM orders o WHERE EXISTS (SELECT COUNT(*) FROM payments p WHERE p.order_id = o.id);
SELECT id FROM orders o WHERE NOT EXISTS (SELECT COUNT(*) FROM payments p WHERE p.order_id = o.id);
SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM payments p WHERE p.order_id = o.id HAVING COUNT(*) > 1);
SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM payments p WHERE p.order_id = o.id HAVING COUNT(*) = 0);
SELECT id, (SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM payments p WHERE p.order_id = o.id)) AS m FROM orders o;
SELECT id, id IN (SELECT order_id FROM payments) AS paid FROM orders;
SELECT id FROM payments WHERE paid > 3 OR id NOT IN (SELECT id FROM payments WHERE paid > 3);

-- What is compared with a column of the subquery must not read the subquery as well.
SELECT id FROM orders o WHERE qty > 5 OR EXISTS (SELECT 1 FROM payments p WHERE p.paid = o.amount + p.paid);
SELECT id, (SELECT p.paid FROM payments p WHERE p.paid = o.amount + p.paid) AS paid FROM orders o;

SELECT id FROM orders WHERE id NOT IN (SELECT order_id FROM payments LIMIT 0);
