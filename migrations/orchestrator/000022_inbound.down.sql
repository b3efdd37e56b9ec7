DROP TABLE trigger_deliveries;
DROP INDEX triggers_user;
DROP TABLE listeners;
DROP TABLE hooks;
DELETE FROM triggers WHERE type <> 'SCHEDULE';
