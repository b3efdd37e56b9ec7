-- Whether a schedule of the workflow is on, as the orchestrator has told; the revision is that of what was told last.
ALTER TABLE workflows
    ADD COLUMN schedule_enabled  boolean NOT NULL DEFAULT false,
    ADD COLUMN schedule_revision bigint  NOT NULL DEFAULT 0;
CREATE INDEX workflows_of_user_scheduled ON workflows (user_id, created_at, id) WHERE deleted_at IS NULL AND schedule_enabled;
CREATE INDEX workflows_of_user_unscheduled ON workflows (user_id, created_at, id) WHERE deleted_at IS NULL AND NOT schedule_enabled;
CREATE INDEX workflows_scheduled ON workflows (created_at, id) WHERE deleted_at IS NULL AND schedule_enabled;
CREATE INDEX workflows_unscheduled ON workflows (created_at, id) WHERE deleted_at IS NULL AND NOT schedule_enabled;
