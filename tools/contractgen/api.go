package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// ofAPI gives the schemas of the OpenAPI document by name, each with what it refers to.
func ofAPI(root string) (map[string]object, error) {
	raw, err := os.ReadFile(filepath.Join(root, "contracts", "openapi.json"))
	if err != nil {
		return nil, err
	}
	raw = bytes.ReplaceAll(raw, []byte(`"#/components/schemas/`), []byte(`"`+defs))
	var openapi struct {
		Components struct {
			Schemas object `json:"schemas"`
		} `json:"components"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&openapi); err != nil {
		return nil, fmt.Errorf("contracts/openapi.json: %w", err)
	}
	schemas := map[string]object{}
	for name, schema := range openapi.Components.Schemas {
		schemas[name] = bundle(document(name, schema.(object)), openapi.Components.Schemas)
	}
	return schemas, nil
}
