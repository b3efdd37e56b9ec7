package template

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"time"

	"turbocat.io/contracts/catalog"
)

//go:embed official/*.json
var officialFiles embed.FS

// official gives Turbocat's own templates. A changed one has a higher version, or installations keep what they have.
func official() ([]catalog.Template, error) {
	entries, err := officialFiles.ReadDir("official")
	if err != nil {
		return nil, err
	}
	var all []catalog.Template
	for _, e := range entries {
		raw, err := officialFiles.ReadFile(path.Join("official", e.Name()))
		if err != nil {
			return nil, err
		}
		var t catalog.Template
		if err := json.Unmarshal(raw, &t); err != nil {
			return nil, fmt.Errorf("official template %s: %w", e.Name(), err)
		}
		t.UserID, t.IsPublic, t.IsOfficial = nil, true, true
		all = append(all, t)
	}
	return all, nil
}

// KeepOfficial saves Turbocat's own templates. Safe to repeat, and to do at a time by several.
func (s *Templates) KeepOfficial(ctx context.Context) error {
	all, err := official()
	if err != nil {
		return err
	}
	for i, t := range all {
		// In their order, whenever they were first saved.
		t.CreatedAt = time.Date(2026, 1, 1, 0, 0, len(all)-i, 0, time.UTC)
		t.UpdatedAt = s.time()
		if err := s.store.Keep(ctx, t); err != nil {
			return err
		}
	}
	return nil
}
