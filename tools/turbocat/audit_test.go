//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/services/identity"
)

func runAudit(t *testing.T, environ map[string]string, args ...string) (string, error) {
	t.Helper()
	root := newRoot(environ)
	var out bytes.Buffer
	root.SetArgs(append([]string{"audit", "verify"}, args...))
	root.SetOut(&out)
	root.SetErr(&bytes.Buffer{})
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestAuditVerify(t *testing.T) {
	if _, err := runAudit(t, map[string]string{}); err == nil || !strings.Contains(err.Error(), "DATABASE_URL is not set") {
		t.Errorf("said %v", err)
	}
	url := pgtest.URL(t, map[string]fs.FS{"identity": migrations.Of("identity")})
	environ := map[string]string{"DATABASE_URL": url}
	for _, anchor := range []string{"7", "0:ab", "x:" + strings.Repeat("ab", 32), "7:" + strings.Repeat("ab", 31)} {
		if _, err := runAudit(t, environ, "--anchor", anchor); err == nil || !strings.Contains(err.Error(), "is not of the form") {
			t.Errorf("%s: %v", anchor, err)
		}
	}
	if out, err := runAudit(t, environ); err != nil || out != "0 entries, all in order. Anchor: 0:"+strings.Repeat("0", 64)+"\n" {
		t.Errorf("said %q, %v", out, err)
	}
	db, err := postgres.Open(url, "identity")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	insertEntry(t, db)
	var told exit
	out, err := runAudit(t, environ)
	if !errors.As(err, &told) || told != 1 || !strings.HasPrefix(out, "UNKNOWN at entry 1: entry 1 stands behind the end of the chain") {
		t.Errorf("said %q, %v", out, err)
	}
	out, err = runAudit(t, environ, "--json")
	var report identity.AuditReport
	if !errors.As(err, &told) || json.Unmarshal([]byte(out), &report) != nil || report.Break == nil || report.Break.Seq != 1 {
		t.Errorf("said %q, %v", out, err)
	}
}

// insertEntry puts an entry in by hand.
func insertEntry(t *testing.T, db *sqlx.DB) {
	t.Helper()
	if _, err := db.Exec(`INSERT INTO audit_log VALUES (1, gen_random_uuid(), now(), '', '', 'system', '', '', 'agent.created', 'SUCCESS', 'agent', '', '', 'null', '', '', '', '')`); err != nil {
		t.Fatal(err)
	}
}
