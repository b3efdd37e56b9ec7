-- Telemetry is told what calls of models have used, once their end is known. They get a number when they are told of first, under a lock, so that
-- none comes below one that was told before; whoever knows the last has all up to it.
ALTER TABLE calls ADD COLUMN told bigint;
CREATE SEQUENCE calls_told;
CREATE INDEX calls_to_tell ON calls (ended_at) WHERE told IS NULL AND ended_at IS NOT NULL AND kind = 'MODEL';
CREATE INDEX calls_told_in_order ON calls (told) WHERE told IS NOT NULL;
