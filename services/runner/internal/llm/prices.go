package llm

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"time"
)

//go:embed prices.json
var builtinPrices []byte

// Prices are what tokens of models cost.
type Prices struct {
	asOf   string
	models map[string]price
}

// price is in dollars for a million tokens, which is millionths of a dollar for one.
type price struct {
	Input  float64 `json:"input"`
	Output float64 `json:"output"`
}

// LoadPrices reads the table that Turbocat has, and over it that of a file of the same form; path is "" for none. What the file does not name keeps its price.
func LoadPrices(path string) (*Prices, error) {
	prices, err := parsePrices(builtinPrices)
	if err != nil || path == "" {
		return prices, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	over, err := parsePrices(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	prices.asOf = over.asOf
	for name, p := range over.models {
		prices.models[name] = p
	}
	return prices, nil
}

func parsePrices(raw []byte) (*Prices, error) {
	var table struct {
		AsOf   string           `json:"asOf"`
		Models map[string]price `json:"usdPerMillionTokens"`
	}
	if err := json.Unmarshal(raw, &table); err != nil {
		return nil, err
	}
	if _, err := time.Parse(time.DateOnly, table.AsOf); err != nil {
		return nil, fmt.Errorf("asOf is %q; write a date like 2026-11-06", table.AsOf)
	}
	models := make(map[string]price, len(table.Models))
	for name, p := range table.Models {
		if p.Input < 0 || p.Output < 0 {
			return nil, fmt.Errorf("the price of %s is below 0", name)
		}
		models[name] = p
	}
	return &Prices{asOf: table.AsOf, models: models}, nil
}

// of gives the price of a model; false when it has none. A model whose name goes on with a date, as in claude-haiku-4-5-20251001 or
// gpt-4.1-2025-04-14, has that of the name without.
func (p *Prices) of(model string) (price, bool) {
	for name := model; ; {
		if found, ok := p.models[name]; ok {
			return found, true
		}
		cut := strings.LastIndexByte(name, '-')
		if cut < 0 || strings.Trim(name[cut+1:], "0123456789") != "" || len(name)-cut-1 < 2 {
			return price{}, false // a version of one digit is another model
		}
		name = name[:cut]
	}
}

// cost gives what tokens cost in millionths of a dollar, rounded up.
func (p price) cost(u usage) int64 {
	micros := math.Ceil(p.Input*float64(u.input) + p.Output*float64(u.output))
	return int64(min(micros, math.MaxInt64/2))
}
