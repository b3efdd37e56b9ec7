-- The catalog is told which workflows have a schedule that is on, by messages of the outbox; of two of a workflow the one with the higher
-- number is the newer.
CREATE SEQUENCE schedule_states;
SELECT setval('schedule_states', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint); -- above those of a sequence that was dropped

INSERT INTO outbox (id, type, subject, request_id, body)
    SELECT gen_random_uuid(), 'io.turbocat.schedule.noted.v1', workflow_id::text, '',
        json_build_object('workflowId', workflow_id, 'enabled', true, 'revision', nextval('schedule_states'))::text
    FROM (SELECT DISTINCT workflow_id FROM triggers WHERE type = 'SCHEDULE' AND enabled) w;
