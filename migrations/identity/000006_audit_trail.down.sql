DROP TABLE audit_head, audit_log;
DROP FUNCTION refuse_audit_change();
