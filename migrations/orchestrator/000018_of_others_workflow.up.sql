-- What a user has started of one workflow of somebody else. Without it his few, or none, were looked for among all of the workflow or all of his.
CREATE INDEX executions_of_others_workflow ON executions (workflow_id, user_id, created_at DESC, id DESC) WHERE workflow_owner <> user_id;
