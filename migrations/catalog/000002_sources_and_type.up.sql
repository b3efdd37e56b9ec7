-- What an agent or a workflow was made of: another one, or a template. It may be gone by now.
ALTER TABLE agents ADD COLUMN source_id uuid;
ALTER TABLE workflows ADD COLUMN source_id uuid;

-- The type of the current version stands beside what else lists are narrowed by.
ALTER TABLE agents ADD COLUMN type text;
UPDATE agents SET type = v.type FROM agent_versions v WHERE v.agent_id = agents.id AND v.version = agents.version;
ALTER TABLE agents ALTER COLUMN type SET NOT NULL;
