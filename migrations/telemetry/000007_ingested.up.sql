-- Events from outside that are in the feed of a user, by what tells them apart: their source and their id.
CREATE TABLE ingested_events (
    user_id uuid NOT NULL,
    key     bytea NOT NULL, -- SHA-256 of source and id
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, key)
);
CREATE INDEX ingested_events_age ON ingested_events (at);
