SELECT id, address.street.number FROM orders WHERE address.city = 'Rome' AND qty > 1;
SELECT id, tax FROM payments;
SELECT ts FROM payments WHERE paid > 5;
SELECT 1 FROM orders;
SELECT event_type, bid.price FROM nexmark WHERE event_type IN (1, 2);
SELECT bid.price FROM nexmark WHERE event_type = 7;
SELECT CASE WHEN event_type = 2 THEN bid.price ELSE 0 END AS p, event_type FROM nexmark WHERE event_type = 2;
SELECT TRIM(LEADING FROM product) AS l, TRIM(TRAILING FROM product) AS t, TRIM(BOTH FROM product) AS b FROM orders;
