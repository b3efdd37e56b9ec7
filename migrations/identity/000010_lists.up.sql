-- Lists: a page of 20 is found by an index in its order, or by one that has the few rows that are let through.

-- search_words gives the words of a text in lower case, cut at 64 characters. ASCII that is no letter or digit, and common punctuation
-- beyond it, divides words. It is the catalog's.
CREATE FUNCTION search_words(text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT ARRAY(SELECT DISTINCT left(w, 64)
        FROM regexp_split_to_table(lower($1), '[\u0001-\u002f\u003a-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f]+') w WHERE w <> '')
$$;

-- search_query asks for what has, for each word of a text, one that begins with it; NULL when there is no word.
CREATE FUNCTION search_query(text) RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT string_agg(quote_literal(w) || ':*', ' & ')::tsquery FROM unnest(search_words($1)) w
$$;

ALTER TABLE users ADD COLUMN words tsvector GENERATED ALWAYS AS (array_to_tsvector(search_words(email || ' ' || full_name))) STORED;
CREATE INDEX users_words ON users USING gin (words) WITH (gin_pending_list_limit = 256);
CREATE INDEX users_full_name ON users (full_name, id);
CREATE INDEX users_role ON users (role, id);
CREATE INDEX users_of_standing ON users (role, active, created_at, id);
CREATE INDEX users_active ON users (active, created_at, id);

ALTER TABLE sessions ADD COLUMN words tsvector GENERATED ALWAYS AS (array_to_tsvector(search_words(ip || ' ' || user_agent))) STORED;
CREATE INDEX sessions_words ON sessions USING gin (words) WITH (gin_pending_list_limit = 256) WHERE revoked_at IS NULL;
CREATE INDEX sessions_of_user ON sessions (user_id, created_at, id) WHERE revoked_at IS NULL;
CREATE INDEX sessions_of_user_accessed ON sessions (user_id, last_accessed_at, id) WHERE revoked_at IS NULL;

ALTER TABLE api_keys ADD COLUMN revoked boolean GENERATED ALWAYS AS (revoked_at IS NOT NULL) STORED,
    ADD COLUMN words tsvector GENERATED ALWAYS AS (array_to_tsvector(search_words(name || ' ' || prefix))) STORED;
CREATE INDEX api_keys_words ON api_keys USING gin (words) WITH (gin_pending_list_limit = 256);
CREATE INDEX api_keys_created ON api_keys (revoked, created_at, id);
CREATE INDEX api_keys_updated ON api_keys (revoked, updated_at, id);
CREATE INDEX api_keys_name ON api_keys (revoked, name, id);
CREATE INDEX api_keys_of_user ON api_keys (user_id, revoked, created_at, id);
CREATE INDEX api_keys_of_user_updated ON api_keys (user_id, revoked, updated_at, id);
CREATE INDEX api_keys_of_user_name ON api_keys (user_id, revoked, name, id);
DROP INDEX api_keys_user_id_idx;

-- Of changes, which may be long, the first 8,000 characters are searched.
ALTER TABLE audit_log ADD COLUMN words tsvector GENERATED ALWAYS AS (array_to_tsvector(search_words(
    resource_id || ' ' || action || ' ' || ip || ' ' || user_agent || ' ' || request_id || ' ' || left(changes, 8000)))) STORED;
CREATE INDEX audit_log_words ON audit_log USING gin (words) WITH (gin_pending_list_limit = 256);
CREATE INDEX audit_log_outcome ON audit_log (outcome, "time", id);
CREATE INDEX audit_log_resource_type ON audit_log (resource_type, "time", id);
DROP INDEX audit_log_resource;
CREATE INDEX audit_log_resource ON audit_log (resource_id, "time", id);
