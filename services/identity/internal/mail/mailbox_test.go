package mail

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/rpc"
	"turbocat.io/services/identity/internal/account"
)

func TestMailboxKeepsTheNewest(t *testing.T) {
	var log bytes.Buffer
	b := NewMailbox(zerolog.New(&log))
	for i := range kept + 5 {
		if err := b.Send(t.Context(), account.Mail{To: "ada@example.com", Subject: fmt.Sprint(i), Text: "text"}); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Count(log.String(), `"text":"text"`) != kept+5 {
		t.Errorf("log %s", log.String())
	}
	for _, c := range []struct {
		page, size, items int
		first             string
	}{{0, 0, 20, "104"}, {2, 30, 30, "74"}, {4, 30, 10, "14"}, {5, 30, 0, ""}, {1_000_000, 100, 0, ""}} {
		list := b.List(rpc.Page{Page: c.page, PageSize: c.size})
		if len(list.Items) != c.items || list.Pagination.Total != kept || c.items > 0 && list.Items[0].Subject != c.first {
			t.Errorf("page %d of %d: %d items, %+v", c.page, c.size, len(list.Items), list.Pagination)
		}
	}
}
