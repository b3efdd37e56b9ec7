-- How many executions of a user have not ended: those that somebody asked for, not children and what undoes others.
CREATE INDEX executions_unfinished ON executions (user_id) WHERE completed_at IS NULL AND parent_execution_id IS NULL AND compensation_of IS NULL;
