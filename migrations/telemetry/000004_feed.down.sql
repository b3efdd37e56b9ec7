DROP TABLE feed_lease;
DROP TABLE feed_numbers;
DROP TABLE feed_ends;
DROP TABLE feed;
