DROP TABLE idempotent_answers;
DROP TABLE outbox;
DROP TABLE webhook_queue;
DROP TABLE webhook_deliveries;
DROP TABLE webhooks;
