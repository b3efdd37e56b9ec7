-- Lists: a page of 20 is found by an index in its order, or by one that has the few rows that are let through.

-- search_words gives the words of a text in lower case, cut at 64 characters. ASCII that is no letter or digit, and common punctuation
-- beyond it, divides words.
CREATE FUNCTION search_words(text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT ARRAY(SELECT DISTINCT left(w, 64)
        FROM regexp_split_to_table(lower($1), '[\u0001-\u002f\u003a-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f]+') w WHERE w <> '')
$$;

-- search_query asks for what has, for each word of a text, one that begins with it; NULL when there is no word.
CREATE FUNCTION search_query(text) RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT string_agg(quote_literal(w) || ':*', ' & ')::tsquery FROM unnest(search_words($1)) w
$$;

ALTER TABLE agents ADD COLUMN words tsvector GENERATED ALWAYS AS (array_to_tsvector(search_words(name || ' ' || description))) STORED;
CREATE INDEX agents_words ON agents USING gin (words) WHERE deleted_at IS NULL;
CREATE INDEX agents_tags ON agents USING gin (tags) WHERE deleted_at IS NULL;
CREATE INDEX agents_of_user_updated ON agents (user_id, updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX agents_of_user_name ON agents (user_id, name, id) WHERE deleted_at IS NULL;
CREATE INDEX agents_of_user_status ON agents (user_id, status, id) WHERE deleted_at IS NULL;
CREATE INDEX agents_of_user_in_status ON agents (user_id, status, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX agents_of_user_public ON agents (user_id, created_at, id) WHERE deleted_at IS NULL AND is_public;
CREATE INDEX agents_of_user_private ON agents (user_id, created_at, id) WHERE deleted_at IS NULL AND NOT is_public;
CREATE INDEX agents_created ON agents (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX agents_updated ON agents (updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX agents_name ON agents (name, id) WHERE deleted_at IS NULL;
CREATE INDEX agents_status ON agents (status, id) WHERE deleted_at IS NULL;
CREATE INDEX agents_in_status ON agents (status, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX agents_private ON agents (created_at, id) WHERE deleted_at IS NULL AND NOT is_public;
CREATE INDEX agents_of_user_of_type ON agents (user_id, type, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX agents_of_type ON agents (type, created_at, id) WHERE deleted_at IS NULL;

ALTER TABLE workflows ADD COLUMN words tsvector GENERATED ALWAYS AS (array_to_tsvector(search_words(name || ' ' || description))) STORED;
CREATE INDEX workflows_words ON workflows USING gin (words) WHERE deleted_at IS NULL;
CREATE INDEX workflows_tags ON workflows USING gin (tags) WHERE deleted_at IS NULL;
CREATE INDEX workflows_of_user_updated ON workflows (user_id, updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX workflows_of_user_name ON workflows (user_id, name, id) WHERE deleted_at IS NULL;
CREATE INDEX workflows_of_user_status ON workflows (user_id, status, id) WHERE deleted_at IS NULL;
CREATE INDEX workflows_of_user_in_status ON workflows (user_id, status, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX workflows_of_user_public ON workflows (user_id, created_at, id) WHERE deleted_at IS NULL AND is_public;
CREATE INDEX workflows_of_user_private ON workflows (user_id, created_at, id) WHERE deleted_at IS NULL AND NOT is_public;
CREATE INDEX workflows_created ON workflows (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX workflows_updated ON workflows (updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX workflows_name ON workflows (name, id) WHERE deleted_at IS NULL;
CREATE INDEX workflows_status ON workflows (status, id) WHERE deleted_at IS NULL;
CREATE INDEX workflows_in_status ON workflows (status, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX workflows_private ON workflows (created_at, id) WHERE deleted_at IS NULL AND NOT is_public;
