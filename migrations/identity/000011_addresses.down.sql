DROP INDEX users_address;
