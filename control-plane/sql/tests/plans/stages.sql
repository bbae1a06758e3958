EXPLAIN SELECT o.product, COUNT(*) AS n FROM orders o WHERE o.id IN (SELECT order_id FROM payments WHERE paid > 3) AND o.qty > 1 GROUP BY o.product;
