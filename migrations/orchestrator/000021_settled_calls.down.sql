DROP INDEX calls_told_in_order, calls_to_tell;
DROP SEQUENCE calls_told;
ALTER TABLE calls DROP COLUMN told;
