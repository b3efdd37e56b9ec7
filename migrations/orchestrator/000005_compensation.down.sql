ALTER TABLE executions DROP COLUMN compensation_of;
