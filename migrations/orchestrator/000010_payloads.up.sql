-- Payloads that are too large for the rows they belong to, which have a reference "@<hash in hex>.<size>" instead. The chunks of one are
-- written in one transaction: who sees the first sees all. They are kept in weeks, as steps and events are, and go with their executions.
CREATE TABLE payloads (
    execution_id uuid NOT NULL,
    hash         bytea NOT NULL, -- SHA-256 of the whole
    chunk        integer NOT NULL,
    bytes        bytea NOT NULL, -- 1 MiB, the last one less
    PRIMARY KEY (execution_id, hash, chunk)
) PARTITION BY RANGE (execution_id);
-- They are read whole and written once: compressing them would cost more than it saves.
ALTER TABLE payloads ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE payloads_default PARTITION OF payloads DEFAULT;
