ALTER TABLE executions DROP COLUMN parent_step, DROP COLUMN parent_iteration, DROP COLUMN parent_token, DROP COLUMN depth;
ALTER TABLE steps DROP COLUMN child_id;
