SELECT product, COUNT(*) AS c, SUM(qty) AS s, AVG(amount) AS a, MIN(ts) AS m FROM orders GROUP BY product;
SELECT COUNT(DISTINCT product) AS c FROM orders WHERE qty > 3;
SELECT COUNT(*) FILTER (WHERE qty > 3) AS c FROM orders;
SELECT city, COUNT(*) AS c, MAX(score) AS m FROM customers GROUP BY city HAVING COUNT(*) > 2;
SELECT c, COUNT(*) AS n FROM (SELECT customer, COUNT(*) AS c FROM orders GROUP BY customer) GROUP BY c;
SELECT product, customer, GROUPING_ID(product, customer) AS g, SUM(qty) AS s FROM orders GROUP BY CUBE (product, customer);
SELECT DISTINCT product FROM orders;
SELECT DISTINCT city FROM customers;
