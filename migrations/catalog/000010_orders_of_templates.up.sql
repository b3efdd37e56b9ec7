-- Templates of a type or a category in each order, for a rare one is in none of the others within reach.
CREATE INDEX templates_type_used ON templates (is_public, type, usage_count, id) WHERE deleted_at IS NULL;
CREATE INDEX templates_type_rated ON templates (is_public, type, rating, id) WHERE deleted_at IS NULL;
CREATE INDEX templates_type_named ON templates (is_public, type, name, id) WHERE deleted_at IS NULL;
CREATE INDEX templates_category_used ON templates (is_public, category, usage_count, id) WHERE deleted_at IS NULL;
CREATE INDEX templates_category_rated ON templates (is_public, category, rating, id) WHERE deleted_at IS NULL;
CREATE INDEX templates_category_named ON templates (is_public, category, name, id) WHERE deleted_at IS NULL;

-- A user's private templates in each order, for his list is made of these and of those that are public. By the words of the condition no other index serves it.
CREATE INDEX templates_private_created ON templates (user_id, created_at, id) WHERE deleted_at IS NULL AND is_public IS NOT TRUE;
CREATE INDEX templates_private_used ON templates (user_id, usage_count, id) WHERE deleted_at IS NULL AND is_public IS NOT TRUE;
CREATE INDEX templates_private_rated ON templates (user_id, rating, id) WHERE deleted_at IS NULL AND is_public IS NOT TRUE;
CREATE INDEX templates_private_named ON templates (user_id, name, id) WHERE deleted_at IS NULL AND is_public IS NOT TRUE;
DROP INDEX templates_private;
