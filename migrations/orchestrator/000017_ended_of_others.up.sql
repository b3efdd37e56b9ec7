-- What others have started of a user's workflows and did not complete. Without it the few of a user, or none, were looked for among everybody's of the status.
CREATE INDEX executions_of_others_ended ON executions (workflow_owner, status, created_at DESC, id DESC)
    WHERE workflow_owner <> user_id AND completed_at IS NOT NULL AND status <> 'COMPLETED';
