-- Dead letters are listed by the API, and can be sent once more.
ALTER TABLE dead_letters
    DROP COLUMN id,
    ADD COLUMN id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    ADD COLUMN code text NOT NULL DEFAULT 'NO_INPUT',  -- the reason; the column reason says it in words
    ADD COLUMN replays integer NOT NULL DEFAULT 0,
    ADD COLUMN replayed_at timestamptz;
UPDATE dead_letters SET code = 'NO_EXECUTION' WHERE reason LIKE 'no execution has the id %';
CREATE INDEX dead_letters_created ON dead_letters (created_at, id);
