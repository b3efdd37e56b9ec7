DROP TABLE workflow_versions;
DROP TABLE workflows;
DROP TABLE agent_versions;
DROP TABLE agents;
