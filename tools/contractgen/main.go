// Contractgen writes what is made from the declarations in contracts/:
//
//	contracts/schema/event/<type>.json           JSON Schema of a public event, envelope and data
//	contracts/schema/message/<name>.body.json    JSON Schema of an internal message's body, where it has one
//	contracts/schema/message/<name>.headers.json and of its headers
//	contracts/schema/rpc/<method>.request.json   JSON Schemas of a remote procedure
//	contracts/schema/rpc/<method>.response.json
//	contracts/schema/rpc/error.json              and of what all procedures share
//	contracts/schema/api/<Name>.json             JSON Schemas of the API, from contracts/openapi.json
//	contracts/asyncapi.yaml                      AsyncAPI 3.0 of events, messages and procedures
//	docs/events.md
//	docs/errors.md                               the codes of errors, from the comments beside them
//
// Run it as `make contracts` anywhere in the workspace, which writes contracts/openapi.json
// first and docs/database.md, which needs a database, last. Files below contracts/schema that nothing makes any more are removed. Its output depends
// on the sources alone, and a test of this package fails when a file is not what it would write.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// schemaDir holds nothing but what is written here.
const schemaDir = "contracts/schema"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "contractgen:", err)
		os.Exit(1)
	}
}

func run() error {
	root, err := workspace()
	if err != nil {
		return err
	}
	files, err := generate(root)
	if err != nil {
		return err
	}
	stale, err := leftovers(root, files)
	if err != nil {
		return err
	}
	for _, name := range stale {
		if err := os.Remove(filepath.Join(root, name)); err != nil {
			return err
		}
	}
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("%d files written, %d removed\n", len(files), len(stale))
	return nil
}

// workspace gives the folder of go.work, here or above.
func workspace() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.work here or above; run it inside the workspace")
		}
		dir = parent
	}
}

// leftovers gives the files in schemaDir that are not among files, by their paths below root.
func leftovers(root string, files map[string][]byte) ([]string, error) {
	var found []string
	err := filepath.WalkDir(filepath.Join(root, schemaDir), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if name = filepath.ToSlash(name); files[name] == nil {
			found = append(found, name)
		}
		return nil
	})
	slices.Sort(found)
	return found, err
}
