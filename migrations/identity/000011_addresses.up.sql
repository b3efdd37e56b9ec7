-- A search for an address, whose words most addresses have, is for the beginning of it.
CREATE INDEX users_address ON users (email text_pattern_ops);
