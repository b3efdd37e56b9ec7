package main

import (
	"bufio"
	"bytes"
	_ "embed"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/jmoiron/sqlx"

	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres/pgtest"
)

//go:embed database.md.tmpl
var databaseTemplate string

var update = flag.Bool("update", false, "write docs/database.md")

type schemaRow struct {
	Name   string
	Tables []tableRow
}

type tableRow struct {
	Name, Comment string
	Columns       []columnRow
	Rules         []string // keys, indexes and checks
}

type columnRow struct {
	Name     string `db:"name"`
	Type     string `db:"type"`
	Default  string `db:"default"`
	Nullable bool   `db:"nullable"`
	Comment  string
}

// TestDatabasePage holds docs/database.md against what the migrations make. A test writes the page, because only a database knows.
func TestDatabasePage(t *testing.T) {
	root, err := workspace()
	if err != nil {
		t.Fatal(err)
	}
	var schemas []schemaRow
	for _, service := range migrations.Services() {
		files := migrations.Of(service)
		schemas = append(schemas, schemaRow{service, tablesOf(t, pgtest.New(t, service, files), service, sqlComments(t, files))})
	}
	page, err := template.New("database.md").Parse(databaseTemplate)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, schemas); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "docs", "database.md")
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if written, err := os.ReadFile(path); err != nil || !bytes.Equal(written, b.Bytes()) {
		t.Errorf("docs/database.md is not what the migrations make (%v); run `make contracts`", err)
	}
}

// tablesOf reads the tables of a schema, without the parts of a table.
func tablesOf(t *testing.T, db *sqlx.DB, schema string, comments map[string]string) []tableRow {
	t.Helper()
	read := func(dest any, query string, args ...any) {
		t.Helper()
		if err := db.Select(dest, query, args...); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	read(&names, `SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
		AND relname <> 'schema_migrations' ORDER BY relname`, schema)
	var tables []tableRow
	for _, name := range names {
		table := tableRow{Name: name, Comment: comments[name]}
		read(&table.Columns, `SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, NOT a.attnotnull AS nullable, coalesce(pg_get_expr(d.adbin, d.adrelid), '') AS default
			FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
			WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, schema+"."+name)
		for i, c := range table.Columns {
			table.Columns[i].Comment = strings.ReplaceAll(comments[name+"."+c.Name], "|", `\|`)
		}
		read(&table.Rules, `SELECT 'partitioned by ' || pg_get_partkeydef(partrelid) FROM pg_partitioned_table WHERE partrelid = $1::regclass
			UNION ALL (SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = $1::regclass AND contype IN ('p', 'u', 'f', 'c', 'x') ORDER BY contype = 'p' DESC, conname)
			UNION ALL (SELECT 'index ' || regexp_replace(indexdef, '^CREATE (UNIQUE )?INDEX (\S+) ON (ONLY )?\S+ (USING btree )?', '\1\2 ') FROM pg_indexes
				WHERE schemaname = $2 AND tablename = $3 AND indexname NOT IN (SELECT conname FROM pg_constraint WHERE conrelid = $1::regclass) ORDER BY indexname)`,
			schema+"."+name, schema, name)
		for i, rule := range table.Rules {
			table.Rules[i] = "`" + strings.ReplaceAll(rule, schema+".", "") + "`"
		}
		tables = append(tables, table)
	}
	if len(tables) == 0 {
		t.Errorf("%s has no tables", schema)
	}
	return tables
}

var (
	createTable = regexp.MustCompile(`^CREATE TABLE (\w+)`)
	alterTable  = regexp.MustCompile(`^ALTER TABLE (\w+)`)
	column      = regexp.MustCompile(`^\s+(?:ADD COLUMN )?(\w+) .*?--\s*(.*)$`)
	fullComment = regexp.MustCompile(`^\s*--\s?(.*)$`)
	addOnOne    = regexp.MustCompile(`^ALTER TABLE (\w+) ADD COLUMN (\w+) .*?--\s*(.*)$`)
)

// sqlComments reads what migrations say above a table, and above a column or beside it, by "table" and "table.column".
func sqlComments(t *testing.T, files fs.FS) map[string]string {
	t.Helper()
	names, err := fs.Glob(files, "*.up.sql")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	comments := map[string]string{}
	for _, name := range names {
		file, err := files.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		var above []string
		table := ""
		for lines := bufio.NewScanner(file); lines.Scan(); {
			line := lines.Text()
			said := strings.Join(above, " ")
			if m := fullComment.FindStringSubmatch(line); m != nil {
				above = append(above, m[1])
				continue
			}
			above = nil
			if m := addOnOne.FindStringSubmatch(line); m != nil {
				comments[m[1]+"."+m[2]] = strings.TrimSpace(said + " " + m[3])
				continue
			}
			switch m := createTable.FindStringSubmatch(line); {
			case m != nil:
				table = m[1]
				comments[table] = said
			case alterTable.MatchString(line):
				table = alterTable.FindStringSubmatch(line)[1]
			case line == "" || strings.HasPrefix(line, ")"):
				table = ""
			case table != "":
				fields := strings.Fields(strings.Replace(line, "ADD COLUMN ", "", 1))
				if m := column.FindStringSubmatch(line); m != nil {
					said = strings.TrimSpace(said + " " + m[2])
				}
				if said != "" && len(fields) > 0 {
					comments[table+"."+fields[0]] = said
				}
			}
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return comments
}
