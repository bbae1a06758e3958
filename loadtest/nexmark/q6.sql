-- Average of the winning prices of a seller's last auctions: OVER rows that are updated.
-- The public text takes MAX(B.price) and, beside it, B.dateTime, which it neither groups by nor aggregates. This is
-- the bid that has that price: the highest of its auction, the first of equals. Bids of one time are told apart by their auction.
CREATE TABLE nexmark_q6 (seller BIGINT, avg_price BIGINT) WITH ({WITH});

INSERT INTO nexmark_q6
SELECT Q.seller,
  AVG(Q.final) OVER (PARTITION BY Q.seller ORDER BY Q.dateTime, Q.id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW)
FROM (
  SELECT A.id, A.seller, B.price AS final, B.dateTime,
    ROW_NUMBER() OVER (PARTITION BY A.id, A.seller ORDER BY B.price DESC, B.dateTime ASC) AS rownum
  FROM auction A, bid B
  WHERE A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires
) Q
WHERE Q.rownum <= 1;
