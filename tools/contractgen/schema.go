package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"turbocat.io/contracts"
)

const (
	dialect = "https://json-schema.org/draft/2020-12/schema"
	defs    = "#/$defs/"
)

// schemas makes JSON Schemas of Go types, as huma does for the OpenAPI document.
type schemas struct{ comments *comments }

// of gives a schema of t that stands for itself.
func (s *schemas) of(t reflect.Type, title string) (object, error) {
	registry := huma.NewMapRegistry(defs, huma.DefaultSchemaNamer)
	root := registry.Schema(t, false, "")
	if root == nil {
		return nil, errors.New("it has no schema: " + t.String())
	}
	for name := range registry.Map() {
		if err := s.polish(registry, name); err != nil {
			return nil, err
		}
	}
	schema, err := plain(root)
	if err != nil {
		return nil, err
	}
	definitions, err := plain(registry.Map())
	if err != nil {
		return nil, err
	}
	return bundle(document(title, schema), definitions), nil
}

// polish says in a struct's schema what its comments say and what Go's types can not: which values
// may be null, and that members may be added at any time.
func (s *schemas) polish(registry huma.Registry, name string) error {
	t, schema := registry.TypeFromRef(defs+name), registry.Map()[name]
	var err error
	if schema.Description, err = s.comments.of(t); err != nil {
		return err
	}
	schema.AdditionalProperties = nil
	for _, field := range reflect.VisibleFields(t) {
		property := schema.Properties[jsonName(field)]
		if property == nil || field.Anonymous {
			continue
		}
		if property.Ref != "" && field.Type.Kind() == reflect.Pointer && !strings.Contains(field.Tag.Get("json"), ",omit") {
			*property = huma.Schema{AnyOf: []*huma.Schema{{Ref: property.Ref}, {Type: "null"}}}
		}
		if property.Description, err = s.comments.field(t, field); err != nil {
			return err
		}
		if field.Type == reflect.TypeFor[json.RawMessage]() && property.Description == "" {
			property.Description = "any JSON value"
		}
	}
	return nil
}

// ofEvent gives the schema of a public event: its attributes and its data.
func (s *schemas) ofEvent(e contracts.Message) (object, error) {
	data, err := s.of(e.Data, "")
	if err != nil {
		return nil, err
	}
	fields := contracts.EventAttributes()
	for i := range fields {
		if fields[i].Name == "type" {
			fields[i].Value = e.Name
		}
	}
	schema := document(e.Name, ofFields(fields))
	schema["description"] = e.Doc
	if data["$defs"] != nil {
		schema["$defs"] = data["$defs"]
	}
	for _, of := range []string{"$schema", "$defs", "title"} {
		delete(data, of)
	}
	schema["properties"].(object)["data"] = data
	schema["required"] = append(schema["required"].([]string), "data")
	return schema, nil
}

// ofFields gives the schema of an object with these members; it may have others.
func ofFields(fields []contracts.Field) object {
	properties, required := object{}, []string{}
	for _, f := range fields {
		property := object{"type": "string", "description": f.Doc}
		if f.Integer {
			property["type"] = "integer"
		}
		for keyword, value := range map[string]string{"const": f.Value, "format": f.Format, "pattern": f.Pattern} {
			if value != "" {
				property[keyword] = value
			}
		}
		properties[f.Name] = property
		if !f.Optional {
			required = append(required, f.Name)
		}
	}
	return object{"type": "object", "properties": properties, "required": required}
}

// document makes a file of a schema.
func document(title string, schema object) object {
	schema = maps.Clone(schema)
	schema["$schema"], schema["title"] = dialect, title
	return schema
}

// bundle adds to a schema those definitions that it refers to, and those that they refer to.
func bundle(schema, definitions object) object {
	needed := object{}
	var add func(v any)
	add = func(v any) {
		switch v := v.(type) {
		case object:
			if ref, ok := v["$ref"].(string); ok {
				name := strings.TrimPrefix(ref, defs)
				if needed[name] == nil {
					needed[name] = definitions[name]
					add(definitions[name])
				}
			}
			for _, key := range slices.Sorted(maps.Keys(v)) {
				add(v[key])
			}
		case []any:
			for _, item := range v {
				add(item)
			}
		}
	}
	add(schema)
	if len(needed) > 0 {
		schema["$defs"] = needed
	}
	return schema
}

// plain gives v as JSON sees it.
func plain(v any) (object, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var out object
	err = d.Decode(&out)
	return out, err
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}
