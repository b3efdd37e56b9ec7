DROP INDEX dead_letters_created;
ALTER TABLE dead_letters
    DROP COLUMN replayed_at,
    DROP COLUMN replays,
    DROP COLUMN code,
    DROP COLUMN id,
    ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
