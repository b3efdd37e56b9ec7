package script

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/grafana/sobek"
)

// decode gives JSON as values of the script. Unlike the engine's own JSON.parse it takes
// every number that JavaScript takes: 1e400 is Infinity.
func (h *host) decode(text []byte) (sobek.Value, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return h.decodeValue(decoder)
}

func (h *host) decodeValue(decoder *json.Decoder) (sobek.Value, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, fmt.Errorf("read the input: %w", err)
	}
	switch token := token.(type) {
	case nil:
		return sobek.Null(), nil
	case json.Number:
		return h.decodeNumber(token)
	case json.Delim:
		if token == '[' {
			return h.decodeArray(decoder)
		}
		return h.decodeObject(decoder)
	default: // string and bool
		return h.vm.ToValue(token), nil
	}
}

func (h *host) decodeNumber(text json.Number) (sobek.Value, error) {
	number, err := strconv.ParseFloat(text.String(), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return nil, fmt.Errorf("read the input: %w", err)
	}
	return h.vm.ToValue(number), nil
}

func (h *host) decodeArray(decoder *json.Decoder) (sobek.Value, error) {
	var items []any
	for decoder.More() {
		item, err := h.decodeValue(decoder)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	_, err := decoder.Token()
	return h.vm.NewArray(items...), err
}

func (h *host) decodeObject(decoder *json.Decoder) (sobek.Value, error) {
	object := h.vm.NewObject()
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, fmt.Errorf("read the input: %w", err)
		}
		value, err := h.decodeValue(decoder)
		if err != nil {
			return nil, err
		}
		// Not by assignment: __proto__ is a name like any other here.
		h.set(object, name.(string), value)
	}
	_, err := decoder.Token()
	return object, err
}
