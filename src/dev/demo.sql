-- Auctions, people and bids of the Nexmark benchmark, as they would come in real time.
CREATE TABLE IF NOT EXISTS nexmark (
  event_type INT,
  person ROW<id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR,
    dateTime TIMESTAMP(3), extra VARCHAR>,
  auction ROW<id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT,
    dateTime TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra VARCHAR>,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
    dateTime TIMESTAMP(3), extra VARCHAR>,
  dateTime AS CASE
    WHEN event_type = 0 THEN person.dateTime
    WHEN event_type = 1 THEN auction.dateTime
    ELSE bid.dateTime END,
  WATERMARK FOR dateTime AS dateTime
) WITH (
  'connector' = 'nexmark',
  'first-event.rate' = '10000',
  'next-event.rate' = '10000',
  'rate.limited' = 'true'
);

CREATE VIEW IF NOT EXISTS bid AS
SELECT bid.auction, bid.bidder, bid.price, bid.channel, dateTime
FROM nexmark WHERE event_type = 2;

SET 'pipeline.name' = 'demo: bids per second and channel';
SET 'execution.checkpointing.interval' = '500 ms';

SELECT window_end, channel, COUNT(*) AS bids, MAX(price) AS highest, AVG(price) AS average
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '1' SECOND))
WHERE channel IN ('Apple', 'Google', 'Facebook', 'Baidu')
GROUP BY window_start, window_end, channel;

RESET 'pipeline.name';
RESET 'execution.checkpointing.interval';
