-- Bids with who bid, and with the auctions that the bidder has opened.
CREATE TABLE nexmark_q23 (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, bid_dateTime TIMESTAMP(3),
  bid_extra VARCHAR, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR,
  person_dateTime TIMESTAMP(3), person_extra VARCHAR, id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT,
  reserve BIGINT, auction_dateTime TIMESTAMP(3), expires TIMESTAMP(3), category BIGINT, auction_extra VARCHAR) WITH ({WITH});

INSERT INTO nexmark_q23
SELECT B.auction, B.bidder, B.price, B.channel, B.url, B.dateTime, B.extra,
  P.name, P.emailAddress, P.creditCard, P.city, P.state, P.dateTime, P.extra,
  A.id, A.itemName, A.description, A.initialBid, A.reserve, A.dateTime, A.expires, A.category, A.extra
FROM bid B
JOIN person P ON P.id = B.bidder
JOIN auction A ON A.seller = B.bidder;
