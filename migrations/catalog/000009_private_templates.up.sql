-- A user's private templates, which are few. By the words of the condition no other index serves it: the planner would look for them among everybody's, in their order.
CREATE INDEX templates_private ON templates (user_id) WHERE deleted_at IS NULL AND is_public IS NOT TRUE;
