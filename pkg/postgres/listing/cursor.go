package listing

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// cursor is the place behind the last row of a page. It is opaque to clients, yet they may
// send what they like: nothing in it is trusted.
type cursor struct {
	Sort  string `json:"s"`
	Order string `json:"o"`
	Value string `json:"v"`
	ID    string `json:"i"`
	Page  int    `json:"p"` // the number of the page it leads to
	// Before is how many rows were listed before; a page of what was looked for may have fewer than it could.
	Before int `json:"b"`
}

func (c cursor) encode() string {
	b, _ := json.Marshal(c) // strings and numbers always encode
	return base64.RawURLEncoding.EncodeToString(b)
}

func decode(s string) (cursor, bool) {
	var c cursor
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || json.Unmarshal(b, &c) != nil {
		return cursor{}, false
	}
	_, err = uuid.Parse(c.ID)
	ok := err == nil && len(c.ID) == 36 && (c.Order == "asc" || c.Order == "desc") && c.Page > 1 && c.Page <= math.MaxInt32 && c.Before >= 0 && c.Before <= math.MaxInt32 && !strings.ContainsRune(c.Value, 0)
	return c, ok
}

// fits tells whether the value is one of the kind.
func (c cursor) fits(kind Kind) bool {
	if kind == Text {
		return true
	}
	n, err := strconv.ParseInt(c.Value, 10, 64)
	const year9999 = 253_402_300_799_999_999
	return err == nil && (kind == Integer || n >= 0 && n <= year9999)
}
