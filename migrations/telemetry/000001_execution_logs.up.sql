CREATE TABLE execution_logs (
    execution_id uuid        NOT NULL,
    id           uuid        NOT NULL, -- made by the writer, so that a second insert does nothing
    step_key     text,
    attempt      integer     NOT NULL,
    iteration    integer,
    seq          bigint      NOT NULL,
    level        smallint    NOT NULL, -- 0 DEBUG to 4 FATAL
    source       text        NOT NULL,
    message      text        NOT NULL,
    fields       text        NOT NULL, -- a JSON object as it was written; json would refuse some escapes
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (execution_id, id)
);

CREATE INDEX execution_logs_in_order ON execution_logs (execution_id, created_at, id);
