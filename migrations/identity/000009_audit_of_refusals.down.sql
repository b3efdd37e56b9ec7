ALTER TABLE api_keys DROP COLUMN refused_at, DROP COLUMN refused_as;
ALTER TABLE password_reset_requests DROP COLUMN ip, DROP COLUMN user_agent, DROP COLUMN request_id;
