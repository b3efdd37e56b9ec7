DROP TABLE dead_letters, idempotency_keys, commands, execution_events, steps, executions, definitions, partitions, instances, engine_secret;
DROP FUNCTION moment(bigint);
