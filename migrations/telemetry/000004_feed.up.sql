-- The feed of each user: the public events of all of the user's executions, in the order in which everybody is told of them.
-- A row has those that one commit took in for one user, as the batch that EVENTS has of them.
CREATE TABLE feed (
    user_id     uuid NOT NULL,
    seq         bigint NOT NULL,  -- of the last event; those before it count down from there
    id          uuid NOT NULL,    -- of the last event; a UUIDv7, by whose time the weeks are
    event_count integer NOT NULL,
    events      bytea NOT NULL,   -- [e1,e2], the JSON batch format of CloudEvents
    PRIMARY KEY (user_id, seq, id)
) PARTITION BY RANGE (id);
CREATE INDEX feed_times ON feed (user_id, id);
CREATE TABLE feed_default PARTITION OF feed DEFAULT;

-- The envelopes of events are alike: a batch becomes a sixth.
DO $$
DECLARE
    t regclass;
BEGIN
    FOR t IN SELECT relid FROM pg_partition_tree('feed') LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN events SET STORAGE MAIN', t);
        IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)) THEN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN events SET COMPRESSION lz4', t);
        END IF;
    END LOOP;
END $$;

-- How many events each feed has had.
CREATE TABLE feed_ends (
    user_id uuid PRIMARY KEY,
    seq     bigint NOT NULL
);

-- Up to which number the events of each partition are in the feeds.
CREATE TABLE feed_numbers (
    p smallint PRIMARY KEY,
    n bigint NOT NULL DEFAULT 0
);
INSERT INTO feed_numbers (p) SELECT generate_series(0, 31);

-- Who takes events in at present: one process, so that there is one order.
CREATE TABLE feed_lease (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    owner text NOT NULL DEFAULT '',
    until timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO feed_lease DEFAULT VALUES;
