package postgres_test

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/lib/pq"

	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/pgtest"
)

// TestArrays wants the server to read each array as what it holds.
func TestArrays(t *testing.T) {
	db := pgtest.New(t, "arrays", fstest.MapFS{
		"000001_none.up.sql": {Data: []byte("SELECT 1")}, "000001_none.down.sql": {Data: []byte("SELECT 1")},
	})
	const id = "0193b7f0-0000-7000-8000-00000000000a"
	for name, c := range map[string]struct {
		element string
		array   any
		want    []string
	}{
		"bytes":   {"bytea", postgres.Bytes{[]byte("a\x00\xff"), {}, nil}, []string{`\x6100ff`, `\x`, "NULL"}},
		"texts":   {"text", postgres.Texts{`a"{},\`, "", "é\n"}, []string{`a"{},\`, "", "é\n"}},
		"uuids":   {"uuid", postgres.UUIDs{id, ""}, []string{id, "NULL"}},
		"int2s":   {"smallint", postgres.Int2s{-3, math.MaxInt16, math.MinInt16}, []string{"-3", "32767", "-32768"}},
		"int4s":   {"integer", postgres.Int4s{-3, math.MaxInt32, math.MinInt32}, []string{"-3", "2147483647", "-2147483648"}},
		"int8s":   {"bigint", postgres.Int8s{-3, math.MaxInt64, math.MinInt64}, []string{"-3", "9223372036854775807", "-9223372036854775808"}},
		"empty":   {"uuid", postgres.UUIDs{}, nil},
		"nothing": {"bytea", postgres.Bytes(nil), nil},
	} {
		var got []string
		if err := db.SelectContext(t.Context(), &got, `SELECT coalesce(v::text, 'NULL') FROM unnest($1::`+c.element+`[]) WITH ORDINALITY u(v, n) ORDER BY n`, c.array); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
	for name, array := range map[string]any{
		"a text with NUL": postgres.Texts{"a\x00"}, "bad UTF-8": postgres.Texts{"\xff"}, "no UUID": postgres.UUIDs{"x"},
		"too large for smallint": postgres.Int2s{math.MaxInt16 + 1}, "too large for integer": postgres.Int4s{math.MinInt32 - 1},
	} {
		element := map[string]string{"postgres.Texts": "text", "postgres.UUIDs": "uuid", "postgres.Int2s": "smallint", "postgres.Int4s": "integer"}[reflect.TypeOf(array).String()]
		_, err := db.ExecContext(t.Context(), `SELECT $1::`+element+`[]`, array)
		var refused *pq.Error
		if !postgres.Refused(err) || !errors.As(err, &refused) || strings.TrimSpace(refused.Message) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
