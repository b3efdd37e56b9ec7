DROP TABLE ingested_events;
