package guard

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// RetryAfter reads the header of that name, which holds seconds or a date; false when it holds neither.
func RetryAfter(text string, now time.Time) (time.Duration, bool) {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	return max(0, at.Sub(now)), true
}

// Reason gives the text of an error of a client without the URL that net/http and net/url put before it, in which a secret may stand.
func Reason(err error) string {
	var named *url.Error
	if errors.As(err, &named) {
		err = named.Err
	}
	return err.Error()
}
