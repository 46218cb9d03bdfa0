CREATE STREAM auctions (WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds')
    WITH (connector = 'nexmark', table = 'auction', events = 100000, seed = 1);
CREATE STREAM bids (WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds')
    WITH (connector = 'nexmark', table = 'bid', events = 100000, seed = 1);
-- the highest bid of each window of two seconds
CREATE MATERIALIZED VIEW highest AS
    SELECT window_start, max(price) AS price, count(*) AS bids, count(DISTINCT bidder) AS bidders
    FROM bids GROUP BY window(date_time, '2 seconds') EMIT APPEND;
-- the price for which each category's auctions have been sold so far, on average: the best bid before an auction ended
CREATE MATERIALIZED VIEW by_category AS
    SELECT category, count(*) AS sold, round(avg(price)) AS mean
    FROM (SELECT a.id, a.category, max(b.price) AS price
          FROM auctions a JOIN bids b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
          GROUP BY a.id, a.category) GROUP BY category;
