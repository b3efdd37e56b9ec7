-- Lists of templates: a page of 20 is found by an index in its order, or by one that has the few rows that are let through. An ADMIN's is made of two: of those
-- that are public, and of those that are not.
ALTER TABLE templates ADD COLUMN words tsvector GENERATED ALWAYS AS (array_to_tsvector(search_words(name || ' ' || description))) STORED;
CREATE INDEX templates_words ON templates USING gin (words) WITH (gin_pending_list_limit = 256) WHERE deleted_at IS NULL;
CREATE INDEX templates_created ON templates (is_public, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX templates_used ON templates (is_public, usage_count, id) WHERE deleted_at IS NULL;
CREATE INDEX templates_rated ON templates (is_public, rating, id) WHERE deleted_at IS NULL;
CREATE INDEX templates_named ON templates (is_public, name, id) WHERE deleted_at IS NULL;
CREATE INDEX templates_category ON templates (is_public, category, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX templates_type ON templates (is_public, type, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX templates_of_user ON templates (user_id, is_public) WHERE deleted_at IS NULL;
DROP INDEX templates_public;
DROP INDEX templates_public_used;
DROP INDEX templates_public_rated;
DROP INDEX templates_public_named;
DROP INDEX templates_public_category;
DROP INDEX templates_public_type;
DROP INDEX templates_private;

-- How many templates each category has, which counting would read all for.
CREATE TABLE template_categories (
    category  text    NOT NULL,
    is_public boolean NOT NULL,
    templates bigint  NOT NULL,
    PRIMARY KEY (category, is_public)
);
INSERT INTO template_categories SELECT category, is_public, count(*) FROM templates WHERE deleted_at IS NULL GROUP BY category, is_public;

-- In one order, so that two changes wait for each other instead of both. The path is that of the migration, for who changes templates by hand.
CREATE FUNCTION count_templates() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO template_categories SELECT category, is_public, count(*) FROM after WHERE deleted_at IS NULL GROUP BY category, is_public ORDER BY category, is_public
            ON CONFLICT (category, is_public) DO UPDATE SET templates = template_categories.templates + excluded.templates;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO template_categories
            SELECT category, is_public, sum(n) FROM (
                SELECT category, is_public, 1 AS n FROM after WHERE deleted_at IS NULL UNION ALL SELECT category, is_public, -1 FROM before WHERE deleted_at IS NULL
            ) changed GROUP BY category, is_public HAVING sum(n) <> 0 ORDER BY category, is_public
            ON CONFLICT (category, is_public) DO UPDATE SET templates = template_categories.templates + excluded.templates;
    ELSE
        INSERT INTO template_categories SELECT category, is_public, -count(*) FROM before WHERE deleted_at IS NULL GROUP BY category, is_public ORDER BY category, is_public
            ON CONFLICT (category, is_public) DO UPDATE SET templates = template_categories.templates + excluded.templates;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER templates_are_counted_in AFTER INSERT ON templates REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION count_templates();
CREATE TRIGGER templates_are_counted_anew AFTER UPDATE ON templates REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION count_templates();
CREATE TRIGGER templates_are_counted_out AFTER DELETE ON templates REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION count_templates();

-- What is written lately is searched one by one: not more than this.
ALTER INDEX agents_words SET (gin_pending_list_limit = 256);
ALTER INDEX workflows_words SET (gin_pending_list_limit = 256);
