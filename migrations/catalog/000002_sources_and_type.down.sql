ALTER TABLE agents DROP COLUMN type;
ALTER TABLE workflows DROP COLUMN source_id;
ALTER TABLE agents DROP COLUMN source_id;
