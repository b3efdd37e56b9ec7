ALTER TABLE executions DROP COLUMN trigger_id, DROP COLUMN scheduled_for;
DROP TABLE schedule_skips;
DROP TABLE schedules;
DROP TABLE triggers;
