package password

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"turbocat.io/contracts/errs"
)

func TestCheck(t *testing.T) {
	strong := func(bytes int) string { return "Aa1!" + strings.Repeat("x", bytes-4) }
	tests := []struct {
		name, password string
		want           []errs.DetailCode
	}{
		{"7 bytes", strong(7), []errs.DetailCode{"out_of_range"}},
		{"8 bytes", strong(8), nil},
		{"72 bytes", strong(72), nil},
		{"73 bytes", strong(73), nil},
		{"256 bytes", strong(256), nil},
		{"257 bytes", strong(257), []errs.DetailCode{"out_of_range"}},
		{"300 bytes", strong(300), []errs.DetailCode{"out_of_range"}},
		{"256 characters in more bytes", "Aa1!" + strings.Repeat("é", 252), nil},
		{"7 characters in more bytes", "Aa1!ééé", []errs.DetailCode{"out_of_range"}},
		{"empty", "", []errs.DetailCode{"required"}},
		{"NUL", "Aa1!xxxx\x00", []errs.DetailCode{"bad_value"}},
		{"bad UTF-8", "Aa1!xxxx\xff", []errs.DetailCode{"bad_value"}},
		{"all faults at once", "ééé", []errs.DetailCode{"out_of_range", "missing_upper", "missing_digit", "missing_special"}},
		{"no lower", "AAAA11!!", []errs.DetailCode{"missing_lower"}},
		{"a space is special", "Aa1 xxxxx", nil},
		{"capital beyond ASCII", "Éa1!xxxx", nil},
		{"common", "P@ssw0rd", []errs.DetailCode{"common_password"}},
		{"common and weak", "password", []errs.DetailCode{"missing_upper", "missing_digit", "missing_special", "common_password"}},
		{"common only in part", "P@ssw0rd-of-mine", nil},
		{"common in other case", "P@SSw0rd", nil},
		{"two lines of the list", "P@ssw0rd\nP@ssw0rd1", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var codes []errs.DetailCode
			for _, d := range Check("password", tt.password) {
				if d.Field != "password" || (tt.password != "" && strings.Contains(d.Message, tt.password) && len(tt.password) > 8) {
					t.Errorf("detail %+v", d)
				}
				codes = append(codes, d.Code)
			}
			if !slices.Equal(codes, tt.want) {
				t.Errorf("got %v, want %v", codes, tt.want)
			}
		})
	}
}

func TestHasher(t *testing.T) {
	h := NewHasher(bcrypt.MinCost)
	at72 := "Aa1!" + strings.Repeat("x", 68)
	long := at72 + strings.Repeat("y", 100)
	tests := []struct {
		name, stored, given string
		want                bool
	}{
		{"same", "Aa1!xxxx", "Aa1!xxxx", true},
		{"other", "Aa1!xxxx", "Aa1!xxxy", false},
		{"72 bytes", at72, at72, true},
		{"72 bytes and one more", at72, at72 + "y", false},
		{"one more and 72 bytes", at72 + "y", at72, false},
		{"same first 72 bytes", long, at72 + strings.Repeat("z", 100), false},
		{"long", long, long, true},
		{"long without its last byte", long, long[:len(long)-1], false},
		{"the digest of a long one", long, string(digest(long)), false},
		{"empty", "Aa1!xxxx", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			hash, err := h.Hash(context.Background(), tt.stored)
			if err != nil {
				t.Fatal(err)
			}
			got, err := h.Matches(context.Background(), hash, tt.given)
			if err != nil || got != tt.want {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestDummyCostsWhatATrueComparisonDoes(t *testing.T) {
	h := NewHasher(12)
	if cost, err := bcrypt.Cost(h.dummy); err != nil || cost != 12 {
		t.Fatalf("cost of the dummy: %d, %v", cost, err)
	}
	h = NewHasher(bcrypt.MinCost)
	if err := bcrypt.CompareHashAndPassword(h.dummy, digest("x")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		t.Errorf("the dummy is not compared to its end: %v", err)
	}
	if matches, err := h.Matches(context.Background(), "", "x"); matches || err != nil {
		t.Errorf("got %v, %v", matches, err)
	}
}

func TestHasherWaitsNoLongerThanItsCaller(t *testing.T) {
	h := NewHasher(bcrypt.MinCost)
	for range cap(h.slots) {
		h.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.Hash(ctx, "Aa1!xxxx"); errs.CodeOf(err) != errs.DependencyUnavailable {
		t.Errorf("hash: %v", err)
	}
	if _, err := h.Matches(ctx, "", "Aa1!xxxx"); errs.CodeOf(err) != errs.DependencyUnavailable {
		t.Errorf("compare: %v", err)
	}
}
