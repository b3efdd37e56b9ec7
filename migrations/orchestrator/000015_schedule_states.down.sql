DELETE FROM outbox WHERE type = 'io.turbocat.schedule.noted.v1';
DROP SEQUENCE schedule_states;
