package verify

import (
	"context"
	"fmt"
)

// spending checks that what is reserved and spent is what the calls add up to, in one snapshot. Counters of days whose calls retention may
// have begun to delete are left out.
func (v *verifier) spending(ctx context.Context) error {
	const differ = `(coalesce(s.reserved_tokens, 0), coalesce(s.reserved_micros, 0), coalesce(s.spent_tokens, 0), coalesce(s.spent_micros, 0))
		IS DISTINCT FROM (coalesce(c.reserved_tokens, 0), coalesce(c.reserved_micros, 0), coalesce(c.spent_tokens, 0), coalesce(c.spent_micros, 0))`
	rows, err := many[string](ctx, v, fmt.Sprintf(`WITH one AS (
			SELECT execution_id, agent_id, workflow_id, user_id, (started_at AT TIME ZONE 'UTC')::date AS day, CASE WHEN ended_at IS NULL THEN reserved_tokens ELSE 0 END AS reserved_tokens,
				CASE WHEN ended_at IS NULL THEN reserved_micros ELSE 0 END AS reserved_micros, input_tokens + output_tokens AS spent_tokens, cost_micros AS spent_micros FROM calls
		), called AS (
			SELECT v.scope, v.key, v.day, sum(reserved_tokens) AS reserved_tokens, sum(reserved_micros) AS reserved_micros, sum(spent_tokens) AS spent_tokens, sum(spent_micros) AS spent_micros
			FROM one, LATERAL (VALUES ('execution', execution_id::text, '-infinity'::date), ('agent', agent_id::text, day), ('workflow', workflow_id::text, day), ('user', user_id::text, day)) v(scope, key, day)
			GROUP BY 1, 2, 3
		), steps AS (
			SELECT execution_id::text AS key, sum(reserved_tokens) AS reserved_tokens, sum(reserved_micros) AS reserved_micros, sum(spent_tokens) AS spent_tokens, sum(spent_micros) AS spent_micros
			FROM spending WHERE scope = 'step' GROUP BY 1
		)
		SELECT coalesce(s.scope || ' ' || s.key, c.scope || ' ' || c.key) FROM (SELECT * FROM spending WHERE scope <> 'step') s FULL JOIN called c ON c.scope = s.scope AND c.key = s.key AND c.day = s.day
			WHERE %[1]s AND (coalesce(s.day, c.day) > ($1::timestamptz AT TIME ZONE 'UTC')::date OR coalesce(s.day, c.day) = '-infinity' AND EXISTS (SELECT FROM executions e WHERE e.id::text = coalesce(s.key, c.key)))
		UNION ALL SELECT 'steps of the execution ' || key FROM (SELECT * FROM spending WHERE scope = 'execution') s FULL JOIN steps c USING (key) WHERE %[1]s
		LIMIT %[2]d`, differ, told), v.began.Add(-leastRetention))
	if err != nil {
		return err
	}
	for _, what := range rows {
		v.say("I2", "what is reserved or spent by the %s is not what its calls add up to", what)
	}
	v.tell(false)
	return nil
}
