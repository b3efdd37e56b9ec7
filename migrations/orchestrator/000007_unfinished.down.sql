DROP INDEX executions_unfinished;
