package data

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

// The formats of input.data and of the output's data.
const (
	formatJSON   = "json"   // an array of rows
	formatNDJSON = "ndjson" // a text with a row in each line (https://github.com/ndjson/ndjson-spec)
	formatCSV    = "csv"    // a text of records (RFC 4180)
)

// format is how rows are written.
type format struct {
	name      string
	header    bool // of CSV: the first record names the columns
	delimiter rune
	columns   []string
}

var delimiters = []string{",", ";", "\t", "|"}

// parseFormat reads what a config says of its input or output; JSON when it says nothing.
func parseFormat(o *form.Object, name string, faults *form.Faults) format {
	f := format{name: formatJSON, header: true, delimiter: ','}
	sub, ok := o.Sub(name)
	if !ok {
		return f
	}
	f.name = sub.Required("format", "it must be one of json, ndjson, csv")
	switch f.name {
	case formatCSV:
		f.header = sub.Bool("header", true)
		f.delimiter, _ = utf8.DecodeRuneInString(sub.OneOf("delimiter", ",", delimiters...))
		if list, ok := sub.List("columns"); ok {
			for _, p := range parseFields(list, sub.At("columns"), parseColumn, faults) {
				f.columns = append(f.columns, p.Text)
			}
		}
		if name == "input" && !f.header && len(f.columns) == 0 && len(faults.All()) == 0 {
			faults.Add(sub.At("columns"), "is missing; name the columns of records without a header")
		}
	case formatJSON, formatNDJSON, "":
	default:
		faults.Add(sub.At("format"), "is %q; it must be one of json, ndjson, csv", f.name)
	}
	sub.Done()
	return f
}

// parseColumn takes the name of a column as it is.
func parseColumn(text, at string, faults *form.Faults) path {
	if text == "" {
		faults.Add(at, "must not be empty; name a column")
	}
	var p path
	p.Text = text
	return p
}

// read gives the rows of input.data.
func (f format) read(w *work, data gjson.Result) ([]string, error) {
	if f.name == formatJSON {
		rows, ok := elements(data)
		if !ok {
			return nil, dataError("input.data must be an array of rows, not %s", form.Kind(data))
		}
		return rows, nil
	}
	if data.Type != gjson.String {
		return nil, dataError("input.data must be a text of %s, not %s", strings.ToUpper(f.name), form.Kind(data))
	}
	if f.name == formatNDJSON {
		return readLines(w, data.Str)
	}
	return f.readRecords(w, data.Str)
}

// readLines reads a row of each line that is not empty.
func readLines(w *work, text string) ([]string, error) {
	var rows []string
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if !gjson.Valid(line) {
			return nil, dataError("input.data line %d: is no JSON: %.60q", n, line)
		}
		if err := w.reading(line); err != nil {
			return nil, err
		}
		rows = append(rows, line)
	}
	return rows, nil
}

// readRecords makes an object of texts of each record.
func (f format) readRecords(w *work, text string) ([]string, error) {
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\ufeff")))
	r.Comma, r.ReuseRecord, r.FieldsPerRecord = f.delimiter, true, -1
	columns := f.columns
	if f.header {
		header, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, badRecord(err)
		}
		if len(columns) == 0 {
			columns = slices.Clone(header)
			if fault := badColumns(columns); fault != "" {
				return nil, dataError("input.data line 1: %s; name the columns in input.columns", fault)
			}
		} else if len(columns) != len(header) {
			return nil, dataError("input.data line 1: has %d columns, and input.columns names %d", len(header), len(columns))
		}
	}
	keys := make([]string, len(columns))
	for i, name := range columns {
		keys[i] = quote(name)
	}
	var rows []string
	var b []byte
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, badRecord(err)
		}
		if line, _ := r.FieldPos(0); len(record) != len(keys) {
			return nil, dataError("input.data line %d: has %d fields, and there are %d columns; quote a field that has the delimiter or a line break", line, len(record), len(keys))
		}
		b = append(b[:0], '{')
		for i, value := range record {
			b = appendQuoted(appendKey(b, 0, keys[i]), value)
		}
		b = append(b, '}')
		if err := errors.Join(w.reading(string(b)), w.making(len(b))); err != nil {
			return nil, err
		}
		rows = append(rows, string(b))
	}
}

func badRecord(err error) error {
	var parsed *csv.ParseError
	if errors.As(err, &parsed) {
		return dataError("input.data line %d, column %d: %v", parsed.Line, parsed.Column, parsed.Err)
	}
	return err
}

// badColumns tells why the names of a header are not those of columns; "" when they are.
func badColumns(names []string) string {
	seen := map[string]bool{}
	for i, name := range names {
		switch {
		case name == "":
			return fmt.Sprintf("column %d has no name", i+1)
		case seen[name]:
			return fmt.Sprintf("two columns are called %q", name)
		}
		seen[name] = true
	}
	return ""
}

// write gives rows as the text that is the output's data.
func (f format) write(w *work, rows []string) (string, error) {
	var b strings.Builder
	if f.name == formatNDJSON {
		for _, row := range rows {
			b.WriteString(oneLine(row))
			b.WriteByte('\n')
			if err := w.making(len(row) + 1); err != nil {
				return "", explainOutput(err)
			}
		}
		return b.String(), nil
	}
	columns, err := f.columnsOf(w, rows)
	if err != nil {
		return "", err
	}
	places := make(map[string]int, len(columns))
	for i, name := range columns {
		places[name] = i
	}
	out := csv.NewWriter(&b)
	out.Comma = f.delimiter
	if f.header && len(columns) > 0 {
		_ = out.Write(columns) // a Builder takes everything
	}
	for i, row := range rows {
		record, err := record(row, places, len(f.columns) > 0)
		if err != nil {
			return "", explainOutput(inRow(i, err))
		}
		if len(record) == 1 && record[0] == "" { // an empty line would be none
			out.Flush()
			b.WriteString("\"\"\n")
		} else {
			_ = out.Write(record)
		}
		if err := errors.Join(w.reading(row), w.making(len(row))); err != nil {
			return "", explainOutput(err)
		}
	}
	out.Flush()
	return b.String(), nil
}

// explainOutput says that an error is about writing the output.
func explainOutput(err error) error { return step{where: "output"}.explain(err) }

// columnsOf gives the columns: those of the config, or all fields of the rows in the order in which they first appear.
func (f format) columnsOf(w *work, rows []string) ([]string, error) {
	if len(f.columns) > 0 {
		return f.columns, nil
	}
	var columns []string
	seen := map[string]bool{}
	for i, row := range rows {
		r := gjson.Parse(row)
		if !r.IsObject() {
			return nil, explainOutput(notAnObject(i, r))
		}
		if err := w.reading(row); err != nil {
			return nil, err
		}
		nameless := false
		r.ForEach(func(key, _ gjson.Result) bool {
			if nameless = nameless || key.Str == ""; !seen[key.Str] {
				seen[key.Str] = true
				columns = append(columns, key.Str)
			}
			return true
		})
		if nameless {
			return nil, explainOutput(&rowFault{row: i, problem: "has a field without a name, which can be no column; name the columns in output.columns"})
		}
		if len(columns) > maxFields {
			return nil, dataError("output: the rows have more than %d different fields; name the columns in output.columns", maxFields)
		}
	}
	return columns, nil
}

// record gives the fields of a row in their columns; with chosen, fields without one are left out.
func record(row string, places map[string]int, chosen bool) ([]string, error) {
	r := gjson.Parse(row)
	if !r.IsObject() {
		return nil, notAnObject(0, r)
	}
	out := make([]string, len(places))
	var fault error
	r.ForEach(func(key, value gjson.Result) bool {
		at, has := places[key.Str]
		text, ok := plain(value)
		switch {
		case !has && chosen, value.Type == gjson.Null:
		case !ok:
			fault = &rowFault{field: key.Str, problem: fmt.Sprintf(`is %s, which is no field of CSV; pick others, or make it a text by {"convert": ["string"]}`, form.Kind(value))}
			return false
		default:
			out[at] = text
		}
		return true
	})
	return out, fault
}

// oneLine gives a row without line breaks, which stand in none of its texts.
func oneLine(row string) string {
	if !strings.ContainsAny(row, "\r\n") {
		return row
	}
	return strings.NewReplacer("\r", "", "\n", "").Replace(row)
}
