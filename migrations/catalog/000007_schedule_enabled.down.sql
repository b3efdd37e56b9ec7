ALTER TABLE workflows DROP COLUMN schedule_enabled, DROP COLUMN schedule_revision;
