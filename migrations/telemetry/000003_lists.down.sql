DROP INDEX execution_logs_of_step;
DROP INDEX execution_logs_errors;
DROP INDEX execution_logs_warnings;
