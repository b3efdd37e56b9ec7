ALTER TABLE executions DROP COLUMN limited, DROP COLUMN detached;
DROP TABLE concurrency_slots, concurrency_groups;
